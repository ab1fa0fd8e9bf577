// The verbs: what each is about, and how to load it. Loaded one at a time, so that starting is quick.

import type { ProgramContext } from './program.ts';

export type Verb = (argv: readonly string[], program: ProgramContext) => Promise<number>;

export interface VerbEntry {
  readonly about: string;
  /** Not known under QEMU's name. */
  readonly ours?: boolean;
  load(): Promise<Verb>;
}

export const VERBS: Readonly<Record<string, VerbEntry>> = {
  bitmap: {
    about: 'add, remove, clear, enable, disable or merge persistent bitmaps',
    load: async () => (await import('./bitmap.ts')).runBitmap,
  },
  chain: {
    about: 'show the layers of a chain: what they hold, what is hidden, what is wrong',
    ours: true,
    load: async () => (await import('./chain.ts')).runChain,
  },
  check: {
    about: 'look for errors in an image, without changing it',
    load: async () => (await import('./check.ts')).runCheck,
  },
  commit: {
    about: 'merge the layers of a backing chain into its base',
    load: async () => (await import('./commit.ts')).runCommit,
  },
  compare: {
    about: 'tell whether two images show the same data',
    load: async () => (await import('./compare.ts')).runCompare,
  },
  completion: {
    about: 'print what a shell needs to complete the command line',
    ours: true,
    load: async () => {
      const { runCompletion } = await import('./completion.ts');
      return (argv, program) => runCompletion(verbsOf(program), argv, program);
    },
  },
  create: {
    about: 'create an image',
    load: async () => (await import('./create.ts')).runCreate,
  },
  info: {
    about: 'describe an image or its whole backing chain',
    load: async () => (await import('./info.ts')).runInfo,
  },
  map: {
    about: 'show which range of the disk comes from which file',
    load: async () => (await import('./map.ts')).runMap,
  },
  rebase: {
    about: 'give an image another backing file, or none',
    load: async () => (await import('./rebase.ts')).runRebase,
  },
  resize: {
    about: 'make the disk of an image larger or smaller',
    load: async () => (await import('./resize.ts')).runResize,
  },
  serve: {
    about: 'serve a disk over NBD while its layers can be merged',
    ours: true,
    load: async () => (await import('./serve.ts')).runServe,
  },
  snapshot: {
    about: 'list, take, go back to or delete internal snapshots',
    load: async () => (await import('./snapshot.ts')).runSnapshot,
  },
  'storage-daemon': {
    about: 'serve disks over NBD, and take commands over QMP',
    ours: true,
    load: async () => (await import('./storage-daemon.ts')).runStorageDaemon,
  },
};

/** Those that the program has under its name. */
export function verbsOf(program: ProgramContext): readonly [string, VerbEntry][] {
  return Object.entries(VERBS).filter(([, { ours }]) => !(ours && program.asQemu));
}
