// A commit as an operation: the layers, the deepest first, and what is asked for.

import { commit } from '../../../src/commit/commit.ts';
import type { CommitOptions } from '../../../src/commit/options.ts';
import type { Random } from '../crash.ts';
import { buildLayers, type LayerSpec } from './layers.ts';
import { type CrashOperation, commandScene } from './scene.ts';

export interface CommitCase {
  readonly name: string;
  readonly layers: readonly LayerSpec[] | ((random: Random) => readonly LayerSpec[]);
  /** The image that is named. Default: the last layer that is no guest's. */
  readonly filename?: string;
  /** Further images that guests use. */
  readonly guests?: readonly string[];
  readonly request?: Omit<CommitOptions, 'host'>;
  /** See `CrashScene`. */
  readonly clones?: boolean;
}

export function commitOperation(each: CommitCase): CrashOperation {
  const { name, layers, guests = [], request, clones = false } = each;
  return {
    name,
    async prepare(random) {
      const specs = typeof layers === 'function' ? layers(random) : layers;
      const filename =
        each.filename ?? specs.findLast(({ name }) => !guests.includes(name))?.name ?? '';
      const scene = await commandScene(await buildLayers(specs, random), {
        tops: [filename, ...guests],
        run: async (host) => void (await commit(filename, { ...request, host })),
      });
      return { ...scene, clones };
    },
  };
}
