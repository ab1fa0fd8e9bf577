// In which order many ranges go to places that were taken for them: as they lie in their source, so
// that what lies together there lies together here as well, and moves in one piece. What is kept of
// each is a row of numbers: there are tens of thousands.

import { assert } from '../errors.ts';
import type { PlacedRange } from '../io/placed-ranges.ts';
import type { CloneRange, Storage } from '../io/storage.ts';
import { type HostOffset, hostOffset } from '../units.ts';
import type { Placement } from './place.ts';

/** What moves in one piece. */
type Piece = { -readonly [Key in keyof CloneRange]: CloneRange[Key] };

/** A place that was there before, and what goes to it. */
interface Owned {
  readonly placement: Placement;
  readonly source: Storage;
  readonly from: number;
}

/** Host clusters that were free. */
type Taken = Pick<Placement, 'host' | 'clusters' | 'taken'>;

export class SourceOrder {
  readonly #clusterSize: number;
  readonly #storages: Storage[] = [];
  /** Of each stretch that gets a place that was taken: where it is on the disk, in clusters how long. */
  readonly #guests: number[] = [];
  readonly #clusters: number[] = [];
  /** In which file its bytes lie (an index of the storages), and where. */
  readonly #sources: number[] = [];
  readonly #froms: number[] = [];
  /** Host clusters that were taken: the offset of the first, and how many, of each run. */
  readonly #hosts: number[] = [];
  readonly #counts: number[] = [];
  /** Those that have their place already. */
  readonly #owned: Owned[] = [];

  constructor(clusterSize: number) {
    this.#clusterSize = clusterSize;
  }

  /** A range of whole clusters, and the places for it. */
  add({ offset, host: source }: PlacedRange, placed: readonly Placement[]): void {
    for (const placement of placed) {
      const { guest, host, clusters, taken } = placement;
      const from = source.offset + (guest - offset);
      if (!taken) {
        this.#owned.push({ placement, source: source.storage, from });
        continue;
      }
      this.#guests.push(guest);
      this.#clusters.push(clusters);
      this.#sources.push(this.#indexOf(source.storage));
      this.#froms.push(from);
      this.#take(host, clusters);
    }
  }

  /** Makes the last run longer where they touch. */
  #take(host: number, clusters: number): void {
    const last = this.#hosts.length - 1;
    const count = this.#counts[last] ?? 0;
    if (last >= 0 && (this.#hosts[last] ?? 0) + count * this.#clusterSize === host) {
      this.#counts[last] = count + clusters;
      return;
    }
    this.#hosts.push(host);
    this.#counts.push(clusters);
  }

  #indexOf(storage: Storage): number {
    const known = this.#storages.indexOf(storage);
    return known >= 0 ? known : this.#storages.push(storage) - 1;
  }

  /** All that was taken. */
  *taken(): Generator<Taken> {
    for (const [i, host] of this.#hosts.entries()) {
      yield { host: hostOffset(host), clusters: this.#counts[i] ?? 0, taken: true };
    }
  }

  /** What has to move, in as few pieces as it can be. */
  pieces(): readonly CloneRange[] {
    const pieces: Piece[] = [];
    for (const [i, done, host, clusters] of this.#dealt()) {
      const source = this.#storages[this.#sources[i] ?? -1];
      assert(source, 'a stretch comes from a file');
      const from = (this.#froms[i] ?? 0) + done * this.#clusterSize;
      append(pieces, source, from, host, clusters * this.#clusterSize);
    }
    for (const { placement, source, from } of this.#owned) {
      append(pieces, source, from, placement.host, placement.clusters * this.#clusterSize);
    }
    return pieces;
  }

  /** Where all of it goes: the clusters that were taken dealt anew, then those that had their place. */
  *places(): Generator<Placement> {
    for (const [i, done, host, clusters] of this.#dealt()) {
      const from = (this.#guests[i] ?? 0) + done * this.#clusterSize;
      const to = from + clusters * this.#clusterSize;
      const kind = { state: 'new', taken: true, zeroed: false } as const;
      yield { guest: from, host, clusters, ...kind, from, to };
    }
    for (const { placement } of this.#owned) yield placement;
  }

  /**
   * Hands out the host clusters that were taken, the lowest first, to the stretches in the order of
   * their sources: which of them, after how many of its clusters, where, and how many go there.
   */
  *#dealt(): Generator<
    readonly [stretch: number, done: number, host: HostOffset, clusters: number]
  > {
    const room = sorted(this.#hosts.length, (a, b) => order(this.#hosts, a, b));
    let current = 0;
    /** Clusters of the current run that are given away. */
    let used = 0;
    for (const i of this.#bySource()) {
      const wanted = this.#clusters[i] ?? 0;
      for (let done = 0; done < wanted; ) {
        const run = room[current];
        assert(run !== undefined, 'more clusters than were taken');
        const count = this.#counts[run] ?? 0;
        const clusters = Math.min(wanted - done, count - used);
        const host = hostOffset((this.#hosts[run] ?? 0) + used * this.#clusterSize);
        yield [i, done, host, clusters];
        done += clusters;
        used += clusters;
        if (used < count) continue;
        current++;
        used = 0;
      }
    }
  }

  #bySource(): Uint32Array {
    return sorted(
      this.#guests.length,
      (a, b) => order(this.#sources, a, b) || order(this.#froms, a, b),
    );
  }
}

function order(column: readonly number[], a: number, b: number): number {
  return (column[a] ?? 0) - (column[b] ?? 0);
}

/** The numbers below `count` in an order. */
function sorted(count: number, compare: (a: number, b: number) => number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => i).sort(compare);
}

function append(pieces: Piece[], source: Storage, from: number, to: number, length: number): void {
  const last = pieces.at(-1);
  const follows =
    last?.source === source && last.from + last.length === from && last.to + last.length === to;
  if (follows) last.length += length;
  else pieces.push({ source, from, to, length });
}
