// Reads of other parts of the disk that come back just when a write changes its L2 table: they push
// that table out of a small cache between its loading and its change; it comes back.

import { expect, test } from 'vitest';
import { MemoryFile, MemoryStorage } from '../../src/io/memory.ts';
import type { WriteKind } from '../../src/io/storage.ts';
import { createImage } from '../../src/qcow2/create.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import { pattern } from '../support/storage-contract.ts';

const TABLES = 32;
/** Bytes of the disk that one L2 table of 512 bytes maps. */
const COVERED = 64 * 512;

/** Holds reads back until some turns after the next write of data. */
class HeldStorage extends MemoryStorage {
  readonly #turns: number;
  #held: Promise<void> | undefined;
  #release = (): void => undefined;

  constructor(file: MemoryFile, turns: number) {
    super(file);
    this.#turns = turns;
  }

  hold(): void {
    this.#held = new Promise((resolve) => {
      this.#release = resolve;
    });
  }

  override async read(offset: number, target: Uint8Array): Promise<void> {
    await this.#held;
    await super.read(offset, target);
  }

  override async write(offset: number, source: Uint8Array, kind: WriteKind): Promise<void> {
    await super.write(offset, source, kind);
    if (kind === 'data') void this.#letGo();
  }

  async #letGo(): Promise<void> {
    for (let i = 0; i < this.#turns; i++) await null;
    this.#release();
  }
}

async function filled(): Promise<MemoryFile> {
  const file = new MemoryFile();
  const size = TABLES * COVERED;
  const image = await createImage(new MemoryStorage(file), { size, clusterSize: 512 });
  for (let i = 0; i < TABLES; i++) await image.write(i * COVERED, pattern(512, i));
  await image.close();
  return file;
}

test('reads beside a write do not disturb it, whenever they come back', async () => {
  for (let turns = 0; turns < 12; turns++) {
    const storage = new HeldStorage(await filled(), turns);
    const image = await Qcow2Image.open(storage, { cacheBytes: 0 });
    await image.write(512, pattern(512, 1));
    await image.flush();
    storage.hold();
    const others = Array.from({ length: 20 }, (_, i) =>
      image.read((i + 10) * COVERED, new Uint8Array(512)),
    );
    const written = image.write(1024, pattern(512, 2)).then(
      () => 'written',
      (error: unknown) => String(error),
    );
    expect({ turns, outcome: await written }).toEqual({ turns, outcome: 'written' });
    await Promise.all(others);
    await image.close();
  }
});
