// What may go wrong in the order of writes, as changes to the engine's sources.

import type { Mutant } from './mutants.ts';

const FLUSH = 'await this.#storage.flush();';

/** Steps of a checkpoint: see "The order of writes" in ARCHITECTURE.md. */
export const CHECKPOINT: readonly Mutant[] = [
  {
    name: 'no sync behind step a',
    file: 'qcow2/tables.ts',
    changes: [
      [
        `${FLUSH}\n      this.#cache.settle((table) => table.kind === 'refcount-block');\n      await this.#stepRefcountPointers();`,
        "this.#cache.settle((table) => table.kind === 'refcount-block');\n      await this.#stepRefcountPointers();",
      ],
    ],
  },
  {
    name: 'no sync behind step b',
    file: 'qcow2/tables.ts',
    changes: [[`table.settle();\n    ${FLUSH}`, 'table.settle();']],
  },
  {
    name: 'no sync behind step c',
    file: 'qcow2/tables.ts',
    changes: [[`if (wrote) ${FLUSH}`, 'void wrote;']],
  },
  {
    name: 'b before a',
    file: 'qcow2/tables.ts',
    changes: [
      [
        'await this.#writeNewClusters();\n    try {',
        'try {\n      await this.#stepRefcountPointers();',
      ],
      [
        `await this.#stepRefcountPointers();\n      await this.#stepGuestMap();`,
        'await this.#stepGuestMap();',
      ],
      ["this.#storage.event?.('flush_to_disk');", 'await this.#writeNewClusters();'],
    ],
  },
  {
    name: 'c before a',
    file: 'qcow2/tables.ts',
    changes: [
      ['await this.#writeNewClusters();\n    try {', 'try {\n      await this.#stepGuestMap();'],
      ['await this.#stepGuestMap();\n      await this.#stepFreed();', 'await this.#stepFreed();'],
      ["this.#storage.event?.('flush_to_disk');", 'await this.#writeNewClusters();'],
    ],
  },
  {
    name: 'c before b',
    file: 'qcow2/tables.ts',
    changes: [
      [
        'await this.#stepRefcountPointers();\n      await this.#stepGuestMap();',
        'await this.#stepGuestMap();\n      await this.#stepRefcountPointers();',
      ],
    ],
  },
  {
    name: 'd before c',
    file: 'qcow2/tables.ts',
    changes: [
      [
        'await this.#stepGuestMap();\n      await this.#stepFreed();',
        'await this.#stepFreed();\n      await this.#stepGuestMap();',
      ],
    ],
  },
  {
    name: 'what is freed has its refcount lowered at once',
    file: 'qcow2/tables.ts',
    changes: [
      [
        'await this.#writeNewClusters();\n    try {',
        'await lowerRefcounts(this, this.#geometry, this.#freed);\n    this.#freed = new Runs();\n    await this.#writeNewClusters();\n    try {',
      ],
    ],
  },
];

/** Base durable, then relinked, then emptied or removed. */
export const LIVE_ORDER: readonly Mutant[] = [
  {
    name: 'relinked before base is durable',
    file: 'commit/live.ts',
    changes: [
      ['if (!(await this.#control.turn())) return false;\n    await base.flush();\n', ''],
      ['  await base.flush();\n  for (const each of relinks)', '  for (const each of relinks)'],
    ],
  },
  {
    name: 'relinked before base is filled',
    file: 'daemon/commit-work.ts',
    changes: [
      [
        'return fillBase(this.#source, control);',
        `return this.#overlays().then(async (overlays) => {
          const relinks = overlays.map(({ relink }) => relink);
          for (const { overlay, ...pointer } of relinks) await overlay.setBackingFile(pointer);
          return await fillBase(this.#source, control);
        });`,
      ],
    ],
  },
  {
    name: 'what the guest has written is lost with the old tables',
    file: 'qcow2/image.ts',
    changes: [
      [
        '      await tables.checkpoint();\n      if (backing === null)',
        '      if (backing === null)',
      ],
    ],
  },
];

export const COMMIT_ORDER: readonly Mutant[] = [
  {
    name: 'relinked and emptied before base is durable',
    file: 'commit/commit.ts',
    changes: [['  await base.layer.flush();\n  await settleBitmaps', '  await settleBitmaps']],
  },
  {
    name: 'relinked before base is filled',
    file: 'commit/commit.ts',
    changes: [
      [
        'identicalBytes = await fill(prepared, options);\n    for (const each of relinks) await relink(each);',
        'for (const each of relinks) await relink(each);\n    identicalBytes = await fill(prepared, options);',
      ],
    ],
  },
  {
    name: 'emptied before base is filled',
    file: 'commit/commit.ts',
    changes: [
      [
        'identicalBytes = await fill(prepared, options);\n    for (const each of relinks) await relink(each);\n',
        '',
      ],
      [
        'await empty(top, chain.at(0).name);\n',
        'await empty(top, chain.at(0).name);\n    await fill(prepared, options);\n    for (const each of relinks) await relink(each);\n',
      ],
    ],
  },
  {
    name: 'removed before overlays are relinked',
    file: 'commit/commit.ts',
    changes: [
      [
        'for (const each of relinks) await relink(each);',
        'await removeDead(prepared, options);\n    for (const each of relinks) await relink(each);',
      ],
      ['  await removeDead({ chain: left ?? chain, plan }, options);\n', ''],
    ],
  },
  {
    name: 'the switch of a backing pointer is not synced before files are removed',
    file: 'qcow2/backing.ts',
    changes: [
      [
        "await storage.write(offset, bytes, 'header');\n    await storage.flush();",
        "await storage.write(offset, bytes, 'header');",
      ],
    ],
  },
];

/** By way of ranges that share extents: a clone counts as written when it is synced. */
export const CLONES: readonly Mutant[] = [
  {
    name: 'clones are taken for durable: no sync behind step a',
    file: 'qcow2/tables.ts',
    changes: [
      [
        `${FLUSH}\n      this.#cache.settle((table) => table.kind === 'refcount-block');\n      await this.#stepRefcountPointers();`,
        "this.#cache.settle((table) => table.kind === 'refcount-block');\n      await this.#stepRefcountPointers();",
      ],
    ],
  },
  {
    name: 'clones are taken for durable: base is not synced before the rest',
    file: 'commit/commit.ts',
    changes: [['  await base.layer.flush();\n  await settleBitmaps', '  await settleBitmaps']],
  },
  {
    name: 'clones are taken for durable: no sync before what they were taken from goes',
    file: 'commit/commit.ts',
    changes: [['await base.layer.flush();\n      await reclaim.letGo', 'await reclaim.letGo']],
  },
];

/** Overlays outside of the named chain first, the deepest file first. */
export const RERUN_ORDER: readonly Mutant[] = [
  {
    name: 'files are removed from the top down',
    file: 'commit/commit.ts',
    changes: [['const left = [...plan.deletes].reverse();', 'const left = [...plan.deletes];']],
  },
  {
    name: 'the note of what is to be removed goes before the files',
    file: 'commit/commit.ts',
    changes: [
      [
        'await removeDead({ chain: left ?? chain, plan }, options);',
        'await forgetLeftBehind(prepared, options);\n  await removeDead({ chain: left ?? chain, plan }, options);',
      ],
    ],
  },
  {
    name: 'relinked without a note of what is to be removed',
    file: 'commit/relinks.ts',
    changes: [
      ['await add(asQcow2(top.layer), options.delete === true);', 'await add(asQcow2(top.layer));'],
    ],
  },
  {
    name: "the named chain's overlay is relinked first",
    file: 'commit/relinks.ts',
    changes: [['relinks.push(await prepareRelink(', 'relinks.unshift(await prepareRelink(']],
  },
];

/** What is new is there before the header looks at it. */
export const RELINKING: readonly Mutant[] = [
  {
    name: 'the switch before the new name',
    file: 'qcow2/backing.ts',
    changes: [['bytes } of patches) {', 'bytes } of [...patches].reverse()) {']],
  },
];

/** Data files are durable before the map that points into them. */
export const DATA_FILES: readonly Mutant[] = [
  {
    name: 'the data file is not synced',
    file: 'qcow2/paired-storage.ts',
    changes: [['    await this.#data.flush();\n', '']],
  },
];

/** Base durable, then let go of, the lowest layer first. */
export const RECLAIMING: readonly Mutant[] = [
  {
    name: 'let go of before base is durable',
    file: 'commit/commit.ts',
    changes: [['await base.layer.flush();\n      await reclaim.letGo', 'await reclaim.letGo']],
  },
  {
    name: 'let go of before base holds it',
    file: 'commit/commit.ts',
    changes: [
      [
        'await carryOut(left([window.steps]), base.layer, intoBase);',
        'await reclaim.letGo(window);\n      await carryOut(left([window.steps]), base.layer, intoBase);',
      ],
    ],
  },
  {
    name: 'let go of where a layer below still hides it',
    file: 'commit/reclaim.ts',
    changes: [
      ['[...this.layers.entries()].reverse()', '[...this.layers.entries()]'],
      [
        'for await (const [start, end] of shownThrough(below, from, Math.min(to, layer.size))) {',
        'void shownThrough, void below;\n      for (const [start, end] of [[from, Math.min(to, layer.size)] as const]) {',
      ],
    ],
  },
];

/** Emptying where tables are dropped one by one. */
export const SLOW_EMPTYING: readonly Mutant[] = [
  {
    name: 'what a table points to is freed before the table is let go of',
    file: 'qcow2/empty.ts',
    changes: [
      [
        'tables.setL1Entry(index, 0);',
        'await tables.checkpoint();\n    tables.setL1Entry(index, 0);',
      ],
    ],
  },
];

/** Refcounts that were too low are right before the image says so. */
export const DIRTY_ORDER: readonly Mutant[] = [
  {
    name: 'the dirty bit is cleared before refcounts are rebuilt',
    file: 'qcow2/prepare.ts',
    changes: [
      [
        '    await rebuildRefcounts(image, context);\n',
        '    await context.tables.patchHeaderNow({\n      incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE.dirty,\n    });\n    await rebuildRefcounts(image, context);\n',
      ],
    ],
  },
];

/** Emptying in the fast form. */
export const EMPTYING: readonly Mutant[] = [
  {
    name: 'no sync between zeroing the L1 table and what follows',
    file: 'qcow2/empty.ts',
    changes: [["'l1');\n  await storage.flush();\n  tables", "'l1');\n  tables"]],
  },
  {
    name: 'no sync of new tables before the switch to them',
    file: 'qcow2/empty.ts',
    changes: [
      [
        'await writeTables(storage, geometry, layout);\n      await storage.flush();',
        'await writeTables(storage, geometry, layout);',
      ],
    ],
  },
  {
    name: 'no sync of the switch to new tables',
    file: 'qcow2/empty.ts',
    changes: [
      [
        "await storage.write(0, sector, 'header');\n  await storage.flush();",
        "await storage.write(0, sector, 'header');",
      ],
    ],
  },
  {
    name: 'no scratch tables on the way to the final ones',
    file: 'qcow2/empty.ts',
    changes: [['of [scratch, final]', 'of [scratch.first === 0 ? final : final]']],
  },
];

/** Noted in use before the first write; stored beside, durable, switched to; then let go of. */
export const BITMAP_ORDER: readonly Mutant[] = [
  {
    name: 'bitmaps are not marked in use',
    file: 'qcow2/bitmaps.ts',
    changes: [['await this.#mark(recorders, true);', '']],
  },
  {
    name: 'the mark that bitmaps are in use is not synced',
    file: 'qcow2/bitmaps.ts',
    changes: [
      [
        "'bitmap-directory');\n    await storage.flush();",
        "'bitmap-directory');\n    void storage;",
      ],
    ],
  },
  {
    name: 'the directory is switched to before it is durable',
    file: 'qcow2/bitmap-publish.ts',
    changes: [['  await context().tables.checkpoint();\n  return place;', '  return place;']],
  },
  {
    name: 'parts of the header extensions are not synced one after the other',
    file: 'qcow2/header-extensions.ts',
    changes: [
      [
        "await storage.write(offset, bytes, 'header');\n    await storage.flush();",
        "await storage.write(offset, bytes, 'header');",
      ],
    ],
  },
  {
    name: 'the old version is let go of before the switch',
    file: 'qcow2/bitmaps.ts',
    changes: [
      [
        'await switchDirectory(this.#owner, directory);',
        'context().tables.structures.place("bitmap-directory", { offset: 0, length: 0 });\n      writer.letGo(await usedOf(context(), writer.replaced));\n      await context().tables.checkpoint();\n      writer.replaced.length = 0;\n      await switchDirectory(this.#owner, directory);',
      ],
    ],
  },
];

/** Snapshots: written beside, durable, switched to. */
export const SNAPSHOT_ORDER: readonly Mutant[] = [
  {
    name: 'no sync of the new state before the switch to it',
    file: 'qcow2/state-switch.ts',
    changes: [
      ["'snapshot-table');\n    }\n    await this.#storage.flush();", "'snapshot-table');\n    }"],
    ],
  },
];

/** An image holds what its backing file will not show any more, durably, before it says so. */
export const REBASE_ORDER: readonly Mutant[] = [
  {
    name: 'another backing file before the image holds what differs',
    file: 'commit/rebase.ts',
    changes: [
      [
        'if (!unsafe) copied = await copyWhatDiffers(prepared, options);\n  if (!dryRun) await change(prepared, options);',
        'if (!dryRun) await change(prepared, options);\n  if (!unsafe) copied = await copyWhatDiffers(prepared, options);',
      ],
    ],
  },
];

export const SIBLING_ORDER: readonly Mutant[] = [
  {
    name: 'siblings are not synced before base is written to',
    file: 'commit/siblings.ts',
    changes: [['    await image.flush();\n    await image.storeBitmaps();\n', '']],
  },
];

export const IDENTICAL_ORDER: readonly Mutant[] = [
  {
    name: 'base is not synced where nothing was written to it',
    file: 'commit/commit.ts',
    changes: [
      [
        '  await base.layer.flush();\n  await settleBitmaps',
        '  if (skipped() !== plan.copyBytes + plan.zeroBytes) await base.layer.flush();\n  await settleBitmaps',
      ],
    ],
  },
  {
    name: 'what base shows of those below it is not synced',
    file: 'commit/commit.ts',
    changes: [['  await syncAll(layersFrom(base).slice(1));\n', '']],
  },
  {
    name: 'what a killed run relinked is not synced before files are removed',
    file: 'commit/commit.ts',
    changes: [['        await syncAll(chain.layers.map(({ layer }) => layer));\n', '']],
  },
];

/** The header says last that the disk is larger. */
export const SIZE_ORDER: readonly Mutant[] = [
  {
    name: 'the new size before what belongs there',
    file: 'qcow2/writer.ts',
    changes: [
      [
        'await tables.checkpoint();\n      tables.patchMap({ size });',
        'tables.patchMap({ size });',
      ],
    ],
  },
];

/** The header first, then what is past the new end. */
export const SHRINKING: readonly Mutant[] = [
  {
    name: 'tables past the end are let go of before the header does',
    file: 'qcow2/shrink.ts',
    changes: [
      [
        'await tables.patchHeaderNow({ size, l1Size });',
        'for (const offset of gone) await dropTable(before, offset);\n  await tables.checkpoint();\n  await tables.patchHeaderNow({ size, l1Size });',
      ],
      ['  for (const offset of gone) await dropTable(context, offset);\n', ''],
    ],
  },
  {
    name: 'the last cluster is wiped while the disk is still longer',
    file: 'qcow2/shrink.ts',
    changes: [
      [
        'await tables.patchHeaderNow({ size, l1Size });',
        'await wipeTail(before, size);\n  await tables.patchHeaderNow({ size, l1Size });',
      ],
    ],
  },
];

export const REPAIR_ORDER: readonly Mutant[] = [
  {
    name: 'the dirty bit is cleared before refcounts are right',
    file: 'qcow2/repair.ts',
    changes: [
      [
        '  const round = new RepairRound(state, fix, tell);',
        '  await patchHeader(storage, ({ incompatibleFeatures }) => ({\n    incompatibleFeatures: incompatibleFeatures & ~INCOMPATIBLE.dirty,\n  }));\n  const round = new RepairRound(state, fix, tell);',
      ],
    ],
  },
  {
    name: 'tables of bitmaps are pointed to before they are durable',
    file: 'qcow2/repair-lost-bits.ts',
    changes: [
      [
        '    tables.set(each, offset);\n  }\n  await storage.flush();',
        '    tables.set(each, offset);\n  }',
      ],
    ],
  },
  {
    name: 'tables are switched to before they are durable',
    file: 'qcow2/repair-renew.ts',
    changes: [
      [
        'await writeRefcounts(next, space);\n  await storage.flush();',
        'await writeRefcounts(next, space);',
      ],
    ],
  },
];
