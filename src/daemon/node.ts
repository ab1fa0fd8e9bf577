// A node of the graph: one driver over its storage or its children, by a name of its own.

import type { BlockNode as NodeOptions } from '../chain/blockdev.ts';
import { type NodeName, nameText } from '../chain/node-name.ts';
import { assert } from '../errors.ts';
import type { CacheMode } from '../io/host.ts';
import type { Storage } from '../io/storage.ts';
import type { Layer, LayerFormat } from '../layer.ts';
import type { RawSource } from '../raw/raw.ts';
import { type Access, ALL, type ChildRole, type Named } from './permissions.ts';

/** What a node was told about itself, or has from the node above. */
export interface NodeSettings {
  readonly name: string;
  readonly readOnly: boolean;
  readonly autoReadOnly: boolean;
  readonly cache: CacheMode;
  /** What guests discard is discarded below, too. */
  readonly discard: boolean;
  readonly detectZeroes: 'off' | 'on' | 'unmap';
  /** Keeps nobody out of its file. */
  readonly forceShare: boolean;
}

export interface NodeParts {
  /** What a node above has as its file. */
  readonly storage: Storage;
  /** The same as a disk. */
  readonly layer: Layer;
  /** The host's file, whatever stands on it; undefined without one. */
  readonly hostFile: string | undefined;
  readonly exact: NodeName;
  readonly source: RawSource;
  readonly options: NodeOptions;
  /** The format was not guessed from the content. */
  readonly formatKnown: boolean;
  /** The name by which the node above found it; undefined where options or a reference did. */
  readonly storedName: string | undefined;
}

/** Somebody who uses a node: another node, a device, an export, a job. */
export interface User extends Named {
  node: BlockNode;
  /** The node above, where it is one, and what this one is for it. */
  readonly above?: { readonly node: BlockNode; readonly role: ChildRole };
  /** The device's name, where it is one. */
  readonly device?: string;
  /** Its node gives way to another one that shows the same: it goes on with that. */
  readonly onMove?: (node: BlockNode) => Promise<void>;
  /** Resolves when none of its requests is under way; they go on when the function is called. */
  readonly hold?: () => Promise<() => void>;
  use: Access['use'];
  share: Access['share'];
}

/** `commit_top` stands above the layers that a commit takes its data from, and keeps others off. */
export type NodeDriver = LayerFormat | 'commit_top';

export class BlockNode {
  readonly settings: NodeSettings;
  readonly driver: NodeDriver;
  /** Who uses it, the latest first. */
  users: readonly User[] = [];
  /** What it uses; the file first. */
  below: readonly User[] = [];
  /** Made by a command of its own, and gone by one alone. */
  owned = false;
  /** Opened for reading, it is written to for as long as a job needs that. */
  writableForJob = false;
  /** What its file is locked for. */
  locked: Access = { use: [], share: ALL };
  #readOnly: boolean;
  #parts: NodeParts | undefined;

  constructor(settings: NodeSettings, driver: NodeDriver) {
    this.settings = settings;
    this.driver = driver;
    this.#readOnly = settings.readOnly;
  }

  get name(): string {
    return this.settings.name;
  }

  /** What it is made of, once it is open. */
  get parts(): NodeParts {
    assert(this.#parts !== undefined, `node ${this.name} is not open yet`);
    return this.#parts;
  }

  get isOpen(): boolean {
    return this.#parts !== undefined;
  }

  opened(parts: NodeParts): void {
    this.#parts = parts;
  }

  get layer(): Layer {
    return this.parts.layer;
  }

  /** What opens the same again: a plain name, or a `json:{...}` one. */
  get filename(): string {
    return nameText(this.parts.exact);
  }

  get readOnly(): boolean {
    return this.#readOnly && !this.writableForJob;
  }

  /** The file could not be opened for writing, and did not have to be. */
  becomeReadOnly(): void {
    this.#readOnly = true;
  }

  child(role: ChildRole): BlockNode | undefined {
    return this.below.find(({ above }) => above?.role === role)?.node;
  }

  /** The node that it stands on as a disk, whatever a job has put between. */
  get backing(): BlockNode | undefined {
    const below = this.child('backing');
    return below?.driver === 'commit_top' ? below.backing : below;
  }

  /** The name of the device that it is the disk of; empty without one. */
  get device(): string {
    return this.users.find(({ device }) => device !== undefined)?.device ?? '';
  }

  /** Used by nothing but devices, exports and the like. */
  get isRoot(): boolean {
    return this.users.every(({ as }) => as === 'root');
  }
}
