// Encrypted layers with different keys: commits, rebases, other sizes, repairs.

import { openChain } from '../../../src/chain/open.ts';
import { resizeTop } from '../../../src/chain/resize.ts';
import { commit } from '../../../src/commit/commit.ts';
import type { CommitOptions } from '../../../src/commit/options.ts';
import { rebase } from '../../../src/commit/rebase.ts';
import type { MemoryHost } from '../../../src/io/memory-host.ts';
import { viewOf } from '../../../src/qcow2/fields.ts';
import { repairImage } from '../../../src/qcow2/repair.ts';
import { pattern } from '../../../src/testing.ts';
import { type Files, filesIn, type Random } from '../crash.ts';
import { aes, encryptedIn, luks, utf8 } from '../encrypted.ts';
import { eitherScene } from './either.ts';
import { type CrashOperation, commandScene, newHost, viewDigest } from './scene.ts';

const PASSPHRASES = { luks: 'one', aes: 'two', other: 'three' } as const;
const SECRETS = new Map(Object.entries(PASSPHRASES).map(([id, text]) => [id, utf8(text)]));
const KIB = 1024;

interface EncryptedLayer {
  readonly name: string;
  readonly by: keyof typeof PASSPHRASES;
  readonly on?: EncryptedLayer;
  /** Default 60. */
  readonly kib?: number;
}

/** Its header takes 2 MiB, the other method's none. */
const LUKS: EncryptedLayer = { name: '/base', by: 'luks' };
const BASE: EncryptedLayer = { name: '/base', by: 'other' };
const MID: EncryptedLayer = { name: '/mid', by: 'aes', on: BASE };

/** How it is opened, with the keys of all its layers. */
const nodeOf = ({ name, by, on }: EncryptedLayer): object => ({
  driver: 'qcow2',
  encrypt: { 'key-secret': by },
  file: { driver: 'file', filename: name },
  ...(on && { backing: nodeOf(on) }),
});
const targetOf = (layer: EncryptedLayer): string => `json:${JSON.stringify(nodeOf(layer))}`;

async function build(layers: readonly EncryptedLayer[], random: Random): Promise<Files> {
  const host = newHost();
  for (const layer of layers) {
    const { name, by, on, kib = 60 } = layer;
    const encryption = (by === 'luks' ? luks : aes)(PASSPHRASES[by]);
    const backing = on && { backingFile: on.name.slice(1), backingFormat: 'qcow2' };
    const options = { size: kib * KIB, clusterSize: KIB, encryption, ...backing };
    const image = await encryptedIn(await host.createStorage(name), options);
    await image.close();
    await image.storage.close();
    await fill(host, targetOf(layer), random);
  }
  return filesIn(
    host,
    layers.map(({ name }) => name),
  );
}

async function fill(host: MemoryHost, target: string, random: Random): Promise<void> {
  await using chain = await openChain(target, { host, secrets: SECRETS, writable: true });
  for (let i = 0; i < 3; i++) {
    const at = random(chain.size / 512) * 512;
    const length = Math.min((1 + random(30)) * 512, chain.size - at);
    if (i === 1) await chain.zero(at, length);
    else await chain.write(at, pattern(length, random(1000)));
  }
}

/** Of `layers`, the last one is the guest's. */
function command(
  name: string,
  layers: readonly EncryptedLayer[],
  work: (target: string, host: MemoryHost) => Promise<unknown>,
  guest = layers.at(-1),
): CrashOperation {
  return {
    name: `encrypted: ${name}`,
    async prepare(random) {
      const target = guest === undefined ? '' : targetOf(guest);
      return commandScene(await build(layers, random), {
        tops: [target],
        secrets: SECRETS,
        targets: new Map(layers.map((layer) => [layer.name, targetOf(layer)])),
        run: async (host) => void (await work(target, host as MemoryHost)),
      });
    },
  };
}

const commits = (
  name: string,
  layers: readonly EncryptedLayer[],
  request: Omit<CommitOptions, 'host'> = {},
) =>
  command(`commit, ${name}`, layers, (target, host) =>
    commit(target, { host, secrets: SECRETS, ...request }),
  );

async function resize(host: MemoryHost, layer: EncryptedLayer, kib: number): Promise<void> {
  const target = targetOf(layer);
  await using chain = await openChain(target, { host, secrets: SECRETS, writable: true });
  await resizeTop(chain, kib * KIB, { host, preallocation: 'off', force: false });
}

const resizes = (name: string, layer: EncryptedLayer, kib: number): CrashOperation => ({
  name: `encrypted: resize, ${name}`,
  async prepare(random) {
    return eitherScene(await build([layer], random), {
      describe: (host) => viewDigest(host, targetOf(layer), SECRETS),
      run: (host) => resize(host, layer, kib),
    });
  },
});

/** Refcounts that are too high, and too low: the LUKS header's clusters among them. */
const repairs: CrashOperation = {
  name: 'encrypted: repair, LUKS',
  async prepare(random) {
    const files = await build([LUKS], random);
    const bytes = (files.get('/base') ?? new Uint8Array()).slice();
    const view = viewOf(bytes);
    const block = Number(view.getBigUint64(Number(view.getBigUint64(48))));
    for (let cluster = 1; cluster < KIB / 2; cluster++) {
      if (random(40) === 0) view.setUint16(block + cluster * 2, random(2) * 3);
    }
    const repair = async (host: MemoryHost) => {
      const storage = await host.openStorage('/base', { writable: true });
      await repairImage(storage, 'all', () => undefined);
      await storage.close();
    };
    const scene = await commandScene(new Map([['/base', bytes]]), {
      tops: [targetOf(LUKS)],
      secrets: SECRETS,
      targets: new Map([['/base', targetOf(LUKS)]]),
      run: (host) => repair(host as MemoryHost),
    });
    return { ...scene, corrupt: true };
  },
};

const topOn = (on: EncryptedLayer, more: Partial<EncryptedLayer> = {}): EncryptedLayer => ({
  name: '/top',
  by: 'aes',
  on,
  ...more,
});

export const ENCRYPTED = [
  commits('into LUKS', [LUKS, topOn(LUKS)]),
  commits('from LUKS, emptied table by table', [BASE, topOn(BASE, { by: 'luks' })]),
  commits('base grows', [BASE, topOn(BASE, { kib: 90 })]),
  commits('--reclaim', [BASE, topOn(BASE)], { reclaim: true, reclaimWindow: 6000 }),
  commits('-b, 3 files', [BASE, MID, topOn(MID, { by: 'other' })], { base: '/base' }),
  command('rebase onto none', [BASE, topOn(BASE)], (target, host) =>
    rebase(target, { host, secrets: SECRETS, backing: '' }),
  ),
  resizes('grow', BASE, 100),
  resizes('shrink, LUKS', LUKS, 17),
  repairs,
];
