// Passphrases of encrypted images, as users of the library give them.

/**
 * Passphrases by name: as text, or as bytes of UTF-8. A description refers to them by the name, as
 * `encrypt: { 'key-secret': name }`.
 */
export type Secrets = Readonly<Record<string, string | Uint8Array>>;
