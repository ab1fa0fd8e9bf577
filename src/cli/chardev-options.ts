// What `--chardev` says: which way in, under which name.

import type { ChardevSettings } from '../daemon/chardev.ts';
import { ImageError } from '../errors.ts';
import { namedValues } from './option-list.ts';

export interface ChardevOptions {
  readonly id: string;
  readonly settings: ChardevSettings;
  readonly warnings: readonly string[];
}

const invalid = (message: string) => new ImageError('invalid', message);

const KNOWN: Readonly<Record<string, readonly string[]>> = {
  null: [],
  stdio: ['signal'],
  socket: ['path', 'host', 'port', 'server', 'wait', 'nodelay', 'delay', 'reconnect', 'to'].concat([
    'ipv4',
    'ipv6',
    'abstract',
    'tight',
  ]),
};
const BOOLS = ['server', 'wait', 'nodelay', 'delay', 'ipv4', 'ipv6', 'abstract', 'tight', 'signal'];

export function parseChardev(text: string): ChardevOptions {
  const [first, ...rest] = namedValues(text);
  const named = first?.name === 'backend' || first?.flag !== true;
  const values = named && first !== undefined ? [first, ...rest] : rest;
  const given = new Map(values.map(({ name, value }) => [name, value]));
  const backend = named ? given.get('backend') : first?.name;
  const id = given.get('id');
  if (id === undefined) throw invalid('chardev: no id specified');
  if (!/^[a-z][a-z0-9._-]*$/i.test(id)) throw invalid("Parameter 'id' expects an identifier");
  if (backend === undefined) throw invalid(`chardev: "${id}" missing backend`);
  const known = KNOWN[backend];
  if (known === undefined) throw invalid(`'${backend}' is not a valid char driver name`);
  const unknown = [...given.keys()].find((key) => !['id', 'backend', ...known].includes(key));
  if (unknown !== undefined) throw invalid(`Invalid parameter '${unknown}'`);
  for (const key of BOOLS) toBool(given, key);
  const short = values.filter(({ flag }) => flag).map(warningFor);
  return { id, settings: settingsOf(backend, given), warnings: short };
}

function warningFor({ name, value }: { readonly name: string; readonly value: string }): string {
  const written = value === 'on' ? name : `no${name}`;
  return (
    `warning: short-form boolean option '${written}' deprecated\n` +
    `Please use ${name}=${value} instead`
  );
}

function toBool(given: ReadonlyMap<string, string>, key: string): boolean | undefined {
  const text = given.get(key);
  if (text === undefined) return undefined;
  if (/^(on|yes|true|y)$/.test(text)) return true;
  if (/^(off|no|false|n)$/.test(text)) return false;
  throw invalid(`Parameter '${key}' expects 'on' or 'off'`);
}

function settingsOf(backend: string, given: ReadonlyMap<string, string>): ChardevSettings {
  if (backend === 'null') return { kind: 'null' };
  if (backend === 'stdio') return { kind: 'stdio' };
  const server = toBool(given, 'server') ?? false;
  const wait = toBool(given, 'wait') ?? server;
  if (!server && toBool(given, 'wait') !== undefined) {
    throw invalid("'wait' option is incompatible with socket in client connect mode");
  }
  return { kind: 'socket', address: addressOf(given), server, wait };
}

function addressOf(given: ReadonlyMap<string, string>) {
  const path = given.get('path');
  if (path !== undefined) return { type: 'unix', path } as const;
  const port = given.get('port');
  if (port === undefined) throw invalid('chardev: socket: no port given');
  if (!/^\d+$/.test(port) || Number(port) > 65_535) {
    throw invalid(`address resolution failed for ${given.get('host') ?? ''}:${port}`);
  }
  return { type: 'inet', host: given.get('host') ?? '127.0.0.1', port: Number(port) } as const;
}
