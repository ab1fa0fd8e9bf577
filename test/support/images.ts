// Images of one directory by name, made and read by QEMU: what the named examples are written in.

import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type CommitRequest, libraryCommitter, qemuCommitter } from './committers.ts';
import {
  checkClean,
  compare,
  infoOf,
  type MapEntry,
  mapOf,
  mustIn,
  qemuIo,
  viewOf,
} from './qemu.ts';
import { tempDir } from './temp.ts';

export interface CreateOptions {
  /** As for `qemu-img create -o`. */
  readonly options?: string;
  readonly backing?: string;
}

export class Images {
  readonly dir: string;

  constructor(dir = tempDir()) {
    this.dir = dir;
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  /** Format by name: `*.raw`, else qcow2. */
  async create(
    name: string,
    size: string,
    { options, backing }: CreateOptions = {},
  ): Promise<void> {
    const more = options === undefined ? [] : ['-o', options];
    const below = backing === undefined ? [] : ['-u', '-b', backing, '-F', formatOf(backing)];
    await this.qemuImg('create', '-q', '-f', formatOf(name), ...more, ...below, name, size);
  }

  async qemuImg(...args: string[]): Promise<void> {
    await mustIn(this.dir, 'qemu-img', ...args);
  }

  async io(name: string, ...commands: string[]): Promise<void> {
    await qemuIo(name, commands, formatOf(name), this.dir);
  }

  view(name: string): Promise<Buffer> {
    return viewOf(this.path(name), formatOf(name), this.path('view.scratch'));
  }

  map(name: string): Promise<readonly MapEntry[]> {
    return mapOf(this.path(name), formatOf(name));
  }

  async size(name: string): Promise<number> {
    return (await infoOf(this.path(name), formatOf(name)))['virtual-size'];
  }

  copy(): Images {
    const copy = tempDir();
    cpSync(this.dir, copy, { recursive: true });
    return new Images(copy);
  }

  commit(filename: string, request: CommitRequest = {}): Promise<void> {
    return libraryCommitter.commit(this.dir, filename, request);
  }

  /**
   * Commits by us, and on a copy, which is returned, by QEMU: top's view stays and base shows the
   * same, byte by byte, and both are clean.
   */
  async commitAsQemu(top: string, base: string, request: CommitRequest = {}): Promise<Images> {
    const before = await this.view(top);
    const rival = this.copy();
    await qemuCommitter.commit(rival.dir, top, request);
    await this.commit(top, request);
    expect((await this.view(top)).equals(before), `the view through ${top}`).toBe(true);
    const through = (await this.view(base)).subarray(0, before.length);
    expect(through.equals(before), `the view through ${base}`).toBe(true);
    await compare(this.path(base), formatOf(base), rival.path(base), formatOf(base));
    expect(await this.size(base)).toBe(await rival.size(base));
    for (const name of [top, base]) {
      if (formatOf(name) === 'qcow2') await checkClean(this.path(name));
    }
    return rival;
  }
}

function formatOf(name: string): 'raw' | 'qcow2' {
  return name.endsWith('.raw') ? 'raw' : 'qcow2';
}
