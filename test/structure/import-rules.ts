// Who may import whom in src/: the plan of the house as a table, and a checker over sources. Works
// on text: sources are formatted by Biome, so an import starts its line.

import { posix } from 'node:path';

/** Rooms are the folders of src/ and the single files beside them. Below each: what it may enter. */
const FLOOR = ['errors', 'units', 'json'];
const BYTES = ['layer', 'io', ...FLOOR];
const IMAGES = ['qcow2', 'raw', ...BYTES];
const ENGINE_ABOVE = ['commit', 'chain', ...IMAGES];
const PROTOCOLS = ['nbd', 'qmp', 'hmp'];
const MAY_ENTER: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  units: ['errors'],
  json: ['errors'],
  io: FLOOR,
  layer: ['io', ...FLOOR],
  qcow2: BYTES,
  raw: BYTES,
  chain: IMAGES,
  commit: ['chain', ...IMAGES],
  nbd: BYTES,
  qmp: BYTES,
  hmp: BYTES,
  // This machine reaches NBD servers.
  api: ['nbd', ...ENGINE_ABOVE],
  daemon: [...PROTOCOLS, ...ENGINE_ABOVE],
  cli: ['daemon', ...PROTOCOLS, ...ENGINE_ABOVE],
  // What is published is the API and what it is made over: nothing of the engine.
  index: ['api', 'io', ...FLOOR],
  testing: ['io'],
};

/** Runs without Node.js: over any byte-range store, in a browser. */
const ENGINE = new Set(['qcow2', 'raw', 'chain', 'commit', 'layer', 'json', 'errors', 'units']);
/** All that the engine may know of io/. */
const SEAM = new Set(
  [
    'storage',
    'locks',
    'name-bytes',
    'permissions',
    'host',
    'throttle',
    'memory',
    'copy',
    'events',
    'filter',
  ]
    .concat(['blkdebug', 'null', 'placed-ranges', 'reserve', 'slice'])
    .map((f) => `io/${f}.ts`),
);
/** In io/, but as free of Node.js as the engine. */
const PORTABLE = new Set([...SEAM, 'io/memory-host.ts']);

/** Its native part goes by a scope of its own. */
const NATIVE_CALLS = { library: 'koffi', scope: '@koromix/', onlyIn: 'io/koffi.ts' };
/** What a user starts or imports. A file that neither leads to is dead. */
const ENTRIES = ['index.ts', 'testing.ts', 'cli/main.ts'];

export interface Import {
  /** Null where it is computed. */
  readonly specifier: string | null;
  /** Gone at run time. */
  readonly typeOnly: boolean;
}

/** Path below src/ -> source. */
export type Sources = ReadonlyMap<string, string>;

/** Everything in `sources` that breaks a rule, a line each; empty if nothing does. */
export function importViolations(sources: Sources): readonly string[] {
  const parsed = new Map([...sources].map(([file, source]) => [file, importsOf(source)]));
  return [
    ...[...parsed].flatMap(([file, imports]) => imports.flatMap((one) => badImport(file, one))),
    ...[...sources].flatMap(([file, source]) => badWords(file, source)),
    ...cycles(parsed),
    ...deadFiles(parsed),
  ];
}

export function importsOf(source: string): readonly Import[] {
  const code = withoutComments(source);
  const statement =
    /^(?:import|export)\s+(type\s+)?(?:[\w$*{][\w$*{},\s]*?\sfrom\s+)?(['"])([^'"]+)\2/gm;
  const call = /(typeof\s+)?\bimport\(\s*(?:(['"])([^'"]+)\2\s*\))?(\.[A-Z])?/g;
  return [
    ...[...code.matchAll(statement)].map(([, type, , specifier]) => ({
      specifier: specifier ?? null,
      typeOnly: type !== undefined,
    })),
    ...[...code.matchAll(call)].map(([, queried, , specifier, member]) => ({
      specifier: specifier ?? null,
      typeOnly: queried !== undefined || member !== undefined,
    })),
  ];
}

/** Strings are stepped over, as they may hold what looks like a comment. */
function withoutComments(source: string): string {
  const token =
    /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\*[\s\S]*?\*\/|\/\/.*/g;
  return source.replace(token, (match) => (match.startsWith('/') ? '' : match));
}

function badImport(file: string, { specifier }: Import): readonly string[] {
  const pure = ENGINE.has(roomOf(file)) || PORTABLE.has(file);
  const found: string[] = [];
  const bad = (why: string) => found.push(`${file} imports ${specifier ?? 'something'}: ${why}`);

  if (specifier === null) bad('computed, so nobody can tell what it is');
  else if (!specifier.startsWith('.')) {
    if (pure) bad('the engine knows neither Node.js nor packages');
    if (isNativeLibrary(specifier) && file !== NATIVE_CALLS.onlyIn) {
      bad(`that is for ${NATIVE_CALLS.onlyIn} alone`);
    }
  } else {
    const target = resolve(file, specifier);
    const room = roomOf(file);
    const into = roomOf(target);
    if (target.startsWith('..')) bad('it leads out of src');
    else if (MAY_ENTER[room] === undefined) bad(`${room} has no place in import-rules.ts`);
    else if (room !== into && !MAY_ENTER[room].includes(into)) bad(`${room} may not enter ${into}`);
    else if (pure && into === 'io' && !SEAM.has(target)) bad('it is bound to Node.js');
  }
  return found;
}

/** What comes in without an import. */
function badWords(file: string, source: string): readonly string[] {
  const code = withoutComments(source);
  const pure = ENGINE.has(roomOf(file)) || PORTABLE.has(file);
  const found: string[] = [];
  const global = /\b(?:Buffer|process|NodeJS)(?=\.\w|\[)/.exec(code);
  if (pure && global) found.push(`${file} uses ${global[0]}: the engine does not know Node.js`);
  const loader = /\b(?:createRequire|getBuiltinModule)\b/.exec(code);
  if (loader) found.push(`${file} uses ${loader[0]}: import it, so that it is seen`);
  const { library, onlyIn } = NATIVE_CALLS;
  const imported = importsOf(source).some(({ specifier }) => isNativeLibrary(specifier));
  if (file !== onlyIn && !imported && new RegExp(`(['"\`])${library}[/'"\`]`).test(code)) {
    found.push(`${file} names ${library}: that is for ${onlyIn} alone`);
  }
  return found;
}

type Parsed = ReadonlyMap<string, readonly Import[]>;

/** One violation for each way back into a file that is still being loaded. */
function cycles(parsed: Parsed): readonly string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start !== -1) found.push(`cycle: ${[...path.slice(start), file].join(' -> ')}`);
    if (start !== -1 || done.has(file)) return;
    for (const target of targetsOf(parsed, file, false)) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of parsed.keys()) visit(file, []);
  return found;
}

function deadFiles(parsed: Parsed): readonly string[] {
  const alive = new Set(ENTRIES.filter((entry) => parsed.has(entry)));
  // A Set that grows is walked to its new end.
  for (const file of alive) {
    for (const target of targetsOf(parsed, file, true)) alive.add(target);
  }
  if (alive.size === 0) return [];
  return [...parsed.keys()]
    .filter((file) => !alive.has(file))
    .map((file) => `${file} is dead: neither ${ENTRIES.join(' nor ')} leads to it`);
}

function targetsOf(parsed: Parsed, file: string, withTypes: boolean): readonly string[] {
  return (parsed.get(file) ?? [])
    .filter(({ specifier, typeOnly }) => specifier?.startsWith('.') && (withTypes || !typeOnly))
    .map(({ specifier }) => resolve(file, specifier ?? ''))
    .filter((target) => parsed.has(target));
}

function resolve(file: string, specifier: string): string {
  return posix.normalize(posix.join(posix.dirname(file), specifier));
}

function roomOf(file: string): string {
  return file.includes('/') ? file.slice(0, file.indexOf('/')) : file.replace(/\.ts$/, '');
}

function isNativeLibrary(specifier: string | null): boolean {
  const { library, scope } = NATIVE_CALLS;
  if (specifier === null) return false;
  return [`${library}/`, scope].some((start) => `${specifier}/`.startsWith(start));
}
