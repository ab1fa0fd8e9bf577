// The contract: which cases there are, and that each closes what it opened.

import type { Storage } from '../io/storage.ts';
import { READING } from './reading-cases.ts';
import { RESIZING } from './resizing-cases.ts';
import { WRITING } from './writing-cases.ts';

/** Where a {@link storageContract} case finds its bytes. */
export interface Place {
  /** Opens them, again or for the first time; more than one may be open at once. */
  open(options: { readonly writable: boolean }): Promise<Storage>;
}

/** One promise of a Storage. */
export interface StorageCase {
  /** What is promised, a sentence. Unique. */
  readonly name: string;
  /** Rejects where the promise is not kept. */
  run(): Promise<void>;
}

/** Which promises are tried. */
export interface ContractOptions {
  /** Leaves out the cases that open it for writing. Default false. */
  readonly readOnly?: boolean;
}

/**
 * What a case is given.
 *
 * @internal
 */
export interface Stage {
  place(content: Uint8Array): Promise<Place>;
  /** Open until the case is over. */
  opened(content: Uint8Array, writable?: boolean): Promise<Storage>;
  /** Closes it when the case is over. */
  keep(storage: Storage): Storage;
}

/**
 * A sentence and what tries it.
 *
 * @internal
 */
export type Case = readonly [name: string, run: (stage: Stage) => Promise<void>];

/**
 * All that {@link Storage} promises, a case each, for any test runner:
 *
 *     for (const { name, run } of storageContract(place)) test(name, run);
 *
 * `place` makes a new place that holds `content` (0 to 1.2 MiB; followed by zeros where its size is
 * fixed). Cases are independent of each other and may run at the same time. They keep to what is
 * there: promises about growing are passed by a storage that is not `resizable`, and the other way
 * round.
 */
export function storageContract(
  place: (content: Uint8Array) => Promise<Place>,
  options: ContractOptions = {},
): readonly StorageCase[] {
  const cases = options.readOnly ? READING : [...READING, ...WRITING, ...RESIZING];
  return cases.map(([name, act]) => ({ name, run: () => onStage(place, act) }));
}

async function onStage(place: Stage['place'], act: Case[1]): Promise<void> {
  const kept: Storage[] = [];
  const keep = (storage: Storage): Storage => {
    kept.push(storage);
    return storage;
  };
  const opened = async (content: Uint8Array, writable = true): Promise<Storage> =>
    keep(await (await place(content)).open({ writable }));
  try {
    await act({ place, opened, keep });
  } finally {
    for (const storage of kept) await storage.close();
  }
}
