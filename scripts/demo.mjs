// What commit does, in one picture before and one after: node scripts/demo.mjs [--keep]
// Makes a chain of five images in a temporary folder, merges two of them away with the command, and
// compares what the guest sees byte for byte. Needs what `npm run build` makes, and nothing else.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  digits,
  drawChain,
  holdingsOf,
  LABEL,
  mebibytes,
  painter,
  viewThrough,
} from './chain-picture.mjs';

const MIB = 1024 * 1024;
const CELLS = 64;
const DISK = CELLS * MIB;
const DIST = fileURLToPath(new URL('../dist/', import.meta.url));
/** From the base up. Ranges are cells, the last one not included. */
const LAYERS = [
  { name: 'base', data: [[0, 40]], zero: [] },
  {
    name: 'sn1',
    data: [
      [4, 12],
      [40, 48],
    ],
    zero: [],
  },
  {
    name: 'sn2',
    data: [
      [8, 20],
      [52, 56],
    ],
    zero: [[28, 33]],
  },
  {
    name: 'sn3',
    data: [
      [16, 25],
      [44, 50],
    ],
    zero: [[4, 6]],
  },
  {
    name: 'sn4',
    data: [
      [21, 23],
      [48, 53],
    ],
    zero: [[36, 38]],
  },
];
const COMMAND = ['commit', '--top', 'sn3.qcow2', '-b', 'sn1.qcow2', 'sn4.qcow2'];
/** Merged down; nobody needs them afterwards. */
const MERGED = [3, 2];
const BASE = 1;

const { FORCE_COLOR: force = '', NO_COLOR: none } = process.env;
const forced = force !== '' && force !== '0' && force !== 'false';
const paint = painter(forced || (force === '' && process.stdout.isTTY === true && !none));
const keep = process.argv.includes('--keep');
const { createImage, openChain } = await loadLibrary();

const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-demo-'));
try {
  await demo();
} finally {
  if (keep) console.log(`\nThe images are in ${dir}`);
  else rmSync(dir, { recursive: true });
}

async function demo() {
  await makeChain();
  const before = await lookAt('sn4');
  if (!before.view.equals(whatWasWritten())) fail('The chain does not read as it was written');
  showBefore(before);

  const plan = JSON.parse(qimg([...COMMAND, '--dry-run', '--output=json']).stdout);
  console.log(`\n${paint.bold(`$ qimg-ts ${COMMAND.join(' ')}`)}`);
  const { stdout, stderr } = qimg(COMMAND);
  console.log(`${stdout}${stderr}`);
  showMoved(before, plan);

  const after = await lookAt('sn4');
  showAfter(before, after);
  checkImages(['sn4', 'sn1', 'base']);
  showVerdict(before.view, after.view);
}

async function loadLibrary() {
  if (existsSync(join(DIST, 'index.js')) && existsSync(join(DIST, 'cli.cjs'))) {
    return import(new URL('../dist/index.js', import.meta.url));
  }
  console.error('There is no dist/: run `npm run build` first, or `npm run demo`.');
  process.exit(1);
}

async function makeChain() {
  for (const [number, { name, data, zero }] of LAYERS.entries()) {
    const below = LAYERS[number - 1];
    const backing = below && { backingFile: fileOf(below.name), backingFormat: 'qcow2' };
    const chain = await createImage(join(dir, fileOf(name)), { size: DISK, ...backing });
    for (const [from, to] of data) {
      for (let cell = from; cell < to; cell++) await chain.write(cell * MIB, textOf(name, cell));
    }
    for (const [from, to] of zero) await chain.zero(from * MIB, (to - from) * MIB);
    await chain.close();
  }
}

function fileOf(name) {
  return `${name}.qcow2`;
}

/** No two cells of no two layers are alike. */
function textOf(name, cell) {
  return Buffer.alloc(MIB, `${name} wrote cell ${cell}. `);
}

/** The guest's disk from what the layers were told, without reading an image. */
function whatWasWritten() {
  const view = Buffer.alloc(DISK);
  for (const { name, data, zero } of LAYERS) {
    for (const [from, to] of data) {
      for (let cell = from; cell < to; cell++) view.set(textOf(name, cell), cell * MIB);
    }
    for (const [from, to] of zero) view.fill(0, from * MIB, to * MIB);
  }
  return view;
}

/** The chain through an image: its layers as the picture wants them, top first, and all bytes. */
async function lookAt(name) {
  const chain = await openChain(join(dir, fileOf(name)));
  const layers = [];
  for (const layer of chain.layers) {
    const number = LAYERS.findIndex(({ name }) => layer.filename.endsWith(`/${fileOf(name)}`));
    layers.push({ number, name: LAYERS[number].name, ...(await holdingsOf(layer, CELLS)) });
  }
  const view = Buffer.alloc(DISK, 255);
  await chain.read(0, view);
  await chain.close();
  return { layers, view };
}

function showBefore({ layers, view }) {
  console.log(
    paint.bold(`A disk of ${mebibytes(DISK)} MiB in five layers, four of them snapshots`),
  );
  console.log(`Reads fall through to the first layer that knows: ${legend()}\n`);
  console.log(drawChain(layers, paint).join('\n'));
  console.log(`${hashLine(view)}\n`);
  console.log('Now sn2 and sn3 are to go: what they hold moves down into sn1.');
}

function legend() {
  return '█ data  ░ zeros  · nothing';
}

function showMoved({ layers }, plan) {
  const view = viewThrough(layers.filter(({ number }) => MERGED.includes(number)));
  console.log(`${'moved to sn1 ↓'.padEnd(LABEL)}${digits(view, paint)}`);
  const counts = [
    `${mebibytes(plan['copy-bytes'])} MiB copied`,
    `${mebibytes(plan['zero-bytes'])} MiB marked as zeros`,
    `${plan.ranges} ranges`,
  ];
  console.log(`${' '.repeat(LABEL)}${counts.join(', ')}; nothing else was touched\n`);
}

function showAfter(before, after) {
  const origin = viewThrough(
    before.layers.filter(({ number }) => [...MERGED, BASE].includes(number)),
  );
  const numbers = origin.map((cell) => cell?.number ?? BASE);
  const layers = before.layers.map((old) => {
    if (MERGED.includes(old.number)) return { ...old, dead: true };
    const now = after.layers.find(({ number }) => number === old.number);
    return old.number === BASE ? { ...now, numbers } : now;
  });
  console.log(drawChain(layers, paint).join('\n'));
  console.log(`${hashLine(after.view)}\n`);
  console.log('sn4 stands on sn1 now; ✗ sn3 and sn2 are no longer needed.');
}

function showVerdict(before, after) {
  if (after.equals(before)) {
    console.log(paint.good(`✔ identical: the guest sees the same ${DISK} bytes as before`));
    return;
  }
  const at = before.findIndex((byte, i) => byte !== after[i]);
  console.log(paint.bad(`✘ DIFFERENT: the guest sees something else from byte ${at} on`));
  process.exitCode = 1;
}

function hashLine(view) {
  return 'its sha256'.padEnd(LABEL) + createHash('sha256').update(view).digest('hex');
}

function checkImages(names) {
  const files = names.map(fileOf);
  for (const file of files) {
    const { stdout } = qimg(['check', file]);
    console.log(`$ qimg-ts check ${file.padEnd(10)} ${paint.dim(stdout.split('\n')[0])}`);
  }
  if (!onPath('qemu-img')) return;
  const agrees = files.every((file) => run('qemu-img', ['check', file]).status === 0);
  if (agrees) console.log('qemu-img check agrees');
  else fail('qemu-img check does not agree');
}

function qimg(args) {
  const result = run(process.execPath, [join(DIST, 'cli.cjs'), ...args]);
  if (result.status !== 0) fail(`qimg-ts ${args.join(' ')} failed:\n${result.stderr}`);
  return result;
}

function run(program, args) {
  return spawnSync(program, args, { cwd: dir, encoding: 'utf8' });
}

function onPath(name) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => existsSync(join(folder, name)));
}

function fail(message) {
  throw new Error(message);
}
