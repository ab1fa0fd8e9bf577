// Chains of a few layers to begin with: each layer has a MiB of its own, half over the one below.

import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll } from 'vitest';
import { Images } from './images.ts';
import { makeTemp } from './temp.ts';

export interface StackOptions {
  /** Where to build it; default: a directory of its own. */
  readonly images?: Images;
  /** Size of every disk. */
  readonly size?: string;
  /** As for `qemu-img create -o`, for every layer. */
  readonly options?: string;
}

/** base <- sn1 <- sn2 <- sn3 <- sn4. */
export const FIVE = ['base.qcow2', 'sn1.qcow2', 'sn2.qcow2', 'sn3.qcow2', 'sn4.qcow2'] as const;
/** base <- mid <- top. */
export const THREE = ['base.qcow2', 'mid.qcow2', 'top.qcow2'] as const;
export const TWO = ['base.qcow2', 'top.qcow2'] as const;

/** Each kind of stack is built once for a file of tests; every test gets a copy. */
const templates = new Map<string, Promise<Images>>();
const kept: (() => void)[] = [];
afterAll(() => {
  for (const cleanup of kept) cleanup();
});

/** The first name is the base. */
export async function stack(
  names: readonly string[],
  { images, ...how }: StackOptions = {},
): Promise<Images> {
  if (images !== undefined) return build(names, how, images);
  const key = JSON.stringify([names, how]);
  let template = templates.get(key);
  if (template === undefined) {
    const { dir, cleanup } = makeTemp();
    kept.push(cleanup);
    template = build(names, how, new Images(dir));
    templates.set(key, template);
  }
  return (await template).copy();
}

async function build(
  names: readonly string[],
  { size = '8M', options }: Omit<StackOptions, 'images'>,
  images: Images,
): Promise<Images> {
  for (const [i, name] of names.entries()) {
    const backing = names[i - 1];
    await images.create(name, size, {
      ...(backing !== undefined && { backing }),
      ...(options !== undefined && { options }),
    });
    await images.io(name, `write -P ${i + 1} ${i * 512}k 1M`);
  }
  return images;
}

/** As images of old have it: the header names the backing file, not its format. */
export function forgetBackingFormat(file: string): void {
  const bytes = readFileSync(file);
  const at = bytes.indexOf(Buffer.from([0xe2, 0x79, 0x2a, 0xca]));
  if (at < 0 || at > 4096) throw new Error(`${file}: no backing format is stored`);
  // An extension that nobody knows takes its place.
  bytes.writeUInt32BE(0x1234_5678, at);
  writeFileSync(file, bytes);
}
