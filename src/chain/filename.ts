// How the name of a backing file resolves. Pure: names in, names out.

import { ImageError } from '../errors.ts';

/** A name with a protocol: a colon before any slash, as in `nbd:...` or `json:{...}`. */
export function protocolOf(name: string): string | null {
  const match = /^([^:/]*):/.exec(name);
  return match === null ? null : (match[1] ?? '');
}

export function isAbsolute(name: string): boolean {
  return name.startsWith('/');
}

/** Everything up to the last slash, that slash included; empty without one. */
export function directoryOf(name: string): string {
  return name.slice(0, name.lastIndexOf('/') + 1);
}

export function baseNameOf(name: string): string {
  return name.slice(name.lastIndexOf('/') + 1);
}

/** `name` as seen from the directory of the file `from`. Absolute and protocol names stay. */
export function resolveName(from: string, name: string): string {
  if (isAbsolute(name) || protocolOf(name) !== null) return name;
  return directoryOf(from) + name;
}

/** The file that a `json:{...}` name means in the end; null where it means none that we know. */
export function jsonFileOf(name: string): string | null {
  if (protocolOf(name) !== 'json') return null;
  try {
    return fileIn(JSON.parse(name.slice('json:'.length)));
  } catch {
    return null;
  }
}

/** Nested (`file`: {`filename`: ...}) or in one name (`file.filename`). */
function fileIn(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null;
  const entries = Object.entries(value);
  const named = entries.find(
    ([key, member]) => /(^|\.)filename$/.test(key) && typeof member === 'string',
  );
  if (named !== undefined) return String(named[1]);
  return fileIn(entries.find(([key]) => key === 'file')?.[1]);
}

/** A name without its protocol; what is left, a file's name, does not read as one with another. */
export function withoutProtocol(name: string): string {
  const rest = name.slice(name.indexOf(':') + 1);
  return protocolOf(rest) === null ? rest : `./${rest}`;
}

/** The host file that a name means. Throws `unsupported` for protocols other than `file:`. */
export function hostFileOf(name: string): string {
  const protocol = protocolOf(name);
  if (protocol === null) return name;
  if (protocol === 'file') return withoutProtocol(name);
  throw new ImageError('unsupported', `Unknown protocol '${protocol}'`);
}

/**
 * The shortest name for the file `target` as seen from `directory`; both absolute, free of
 * symbolic links and of `.` and `..`.
 */
export function relativeName(directory: string, target: string): string {
  const from = directory.split('/').filter((part) => part !== '');
  const to = target.split('/').filter((part) => part !== '');
  let common = 0;
  while (common < from.length && common < to.length - 1 && from[common] === to[common]) common++;
  const name = [...from.slice(common).map(() => '..'), ...to.slice(common)].join('/');
  // A colon in the first part would read as a protocol.
  return protocolOf(name) === null ? name : `./${name}`;
}
