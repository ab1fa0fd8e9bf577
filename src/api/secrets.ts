// Passphrases of encrypted images, as users of the library give them.

import type { Secrets as EngineSecrets } from '../chain/secrets.ts';

/**
 * Passphrases by name: as text, or as bytes of UTF-8. A description refers to them by the name, as
 * `encrypt: { 'key-secret': name }`.
 */
export type Secrets = Readonly<Record<string, string | Uint8Array>>;

export function toBytes(secret: string | Uint8Array): Uint8Array {
  return typeof secret === 'string' ? new TextEncoder().encode(secret) : secret;
}

/** As the engine has them; nothing where there are none. */
export function secretsFor(secrets: Secrets | undefined): { readonly secrets?: EngineSecrets } {
  if (secrets === undefined) return {};
  const entries = Object.entries(secrets).map(([name, secret]) => [name, toBytes(secret)] as const);
  return { secrets: new Map(entries) };
}
