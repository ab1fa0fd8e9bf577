// Chains made by QEMU that go through power cuts in memory.

import { readdirSync, readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { openChain } from '../../src/chain/open.ts';
import type { Secrets } from '../../src/chain/secrets.ts';
import type { MemoryHost } from '../../src/io/memory-host.ts';
import { checkImage } from '../../src/qcow2/check.ts';
import { Qcow2Image } from '../../src/qcow2/image.ts';
import type { Files } from './crash.ts';
import type { Images } from './images.ts';

/** Each over the one before: name -> options of its creation. */
export async function stack(
  images: Images,
  options: Readonly<Record<string, string | undefined>>,
  size = '200k',
): Promise<void> {
  let backing: string | undefined;
  for (const [i, [name, option]] of Object.entries(options).entries()) {
    await images.create(name, size, {
      ...(option !== undefined && { options: option }),
      ...(backing !== undefined && { backing }),
    });
    await images.io(name, `write -P ${i + 1} ${i * 13}k 70k`, `write -P ${i + 50} 150k 5k`);
    if (i > 0 && !name.endsWith('.raw')) await images.io(name, `write -z ${20 + i * 9}k 11k`);
    backing = name;
  }
}

export function load(images: Images): Files {
  const names = readdirSync(images.dir).filter((name) => /\.(qcow2|raw|data)$/.test(name));
  return new Map(names.map((name) => [name, new Uint8Array(readFileSync(images.path(name)))]));
}

/** The view through the image, whatever happened. */
export async function crashedView(
  host: MemoryHost,
  name: string,
  { secrets }: { readonly secrets?: Secrets } = {},
): Promise<Uint8Array> {
  await using chain = await openChain(name, { host, ...(secrets && { secrets }) });
  const view = new Uint8Array(chain.size);
  await chain.read(0, view);
  return view;
}

/** No image has a corruption. */
export async function checkAll(host: MemoryHost, files: Files): Promise<void> {
  for (const name of files.keys()) {
    if (!name.endsWith('.qcow2')) continue;
    const openDataFile = (data: string | null) => host.openStorage(data ?? '', { writable: false });
    const storage = await host.openStorage(name, { writable: false });
    const image = await Qcow2Image.open(storage, { openDataFile });
    // Refcounts of a dirty image wait to be rebuilt.
    if (image.dirty) continue;
    const findings: string[] = [];
    const { corruptions, checkErrors } = await checkImage(image, (text) => findings.push(text));
    const found = corruptions + checkErrors > 0 ? findings : [];
    expect(found, name).toEqual([]);
  }
}
