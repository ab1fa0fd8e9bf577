// Our commit against qemu-img's, in turns, on fresh copies of the same chains: see README.md.

import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { fetchProgram } from '../scripts/try-package.mjs';
import { cleanUpAtTheEnd } from './cleanup.mjs';
import { curveSvg } from './curve-svg.mjs';
import { HERE, kindOf, onDisk } from './disks.mjs';
import { run } from './measure.mjs';
import { CLI, readOptions, USAGE } from './options.mjs';
import { callsOf, inTurns, pristine, sharingOf } from './pairs.mjs';
import { callsTable, curveTable, matrixTable } from './tables.mjs';

const CURVE_RUNS = 3;
const MIB = 2 ** 20;

try {
  await main();
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}

async function main() {
  const options = await readOptions(process.argv.slice(2));
  if (options.help) return console.log(USAGE);
  cleanUpAtTheEnd();
  const { ours, programs } = await programsOf(options.nodes);
  const [main] = Object.keys(ours);
  const results = { ...(await machine(ours)), ...settings(options), rows: [], curves: [] };
  const { keep, stem } = keeper(options.out, results);
  console.log(`${heading(results)}\n`);
  for (const disk of options.disks) {
    for (const row of options.rows) {
      for (const measured of await measureRow(row, disk, programs, options)) {
        results.rows.push(measured);
        keep('.json', JSON.stringify(results, null, 1));
      }
    }
  }
  for (const disk of options.curveDisks) {
    for (const curve of options.curves) {
      const measured = await measureCurve(curve, disk, programs, options);
      results.curves.push(measured);
      keep(`-${curve.name}-${disk}.svg`, picture(curve, measured, results, main));
      keep('.json', JSON.stringify(results, null, 1));
    }
  }
  progress('');
  const tables = tablesOf(results, Object.keys(ours));
  console.log(tables);
  keep('.txt', `${heading(results)}\n\n${tables}\n`);
  console.log(`\nWritten: ${stem}.*`);
}

/** Names to what stands before the options of a commit: "Node 24" and so on, and "qemu". */
async function programsOf(nodes) {
  const ours = {};
  for (const node of nodes) {
    const program = await nodeProgram(node);
    const version = (await run([program, '--version'])).trim().slice(1);
    ours[`Node ${version.split('.')[0]}`] = { program, version };
  }
  const commits = Object.entries(ours).map(([name, { program }]) => [
    name,
    { command: [program, CLI, 'commit'], ours: true },
  ]);
  return {
    ours,
    programs: { ...Object.fromEntries(commits), qemu: { command: ['qemu-img', 'commit'] } },
  };
}

async function nodeProgram(node) {
  if (process.version.startsWith(`v${node}.`)) return process.execPath;
  if (!/^\d+$/.test(node)) return resolve(node);
  try {
    return await fetchProgram(node);
  } catch (error) {
    throw new Error(`Node.js ${node} can't be had (${error.message}): name other ones by --node`);
  }
}

/** One result for each state of the cache in which the row is measured on `disk`. */
async function measureRow(row, disk, programs, options) {
  const kind = disk === HERE ? await kindOf(options.dir) : disk;
  const targets = targetsOf(row, kind, options.caches);
  if (Object.keys(targets).length === 0) return [];
  progress(`${row.name} on ${disk}: making the chain`);
  return onDisk(disk, options.dir, row.data * options.scale, async (folder) => {
    const chain = await pristine(folder, (maker) => row.make(maker, options.scale));
    const results = [];
    for (const [cache, target] of Object.entries(targets)) {
      progress(`${row.name} on ${disk}, ${cache}`);
      const how = { runs: options.runs, cold: cache === 'cold', repeat: row.repeat };
      const medians = await inTurns(chain, programs, { ...how, bare: row.startup });
      const { name, about, memory } = row;
      const ratios = ratiosOf(medians);
      results.push({ name, about, disk, cache, target, memory, ratios, medians });
    }
    progress(`${row.name} on ${disk}: counting system calls`);
    const [first] = results;
    const pair = mainAndQemu(programs);
    first.calls = await callsOf(chain, pair);
    if (kind !== 'ext4') first.sharing = await sharingOf(chain, pair);
    return results;
  });
}

/** { cache: target }; on a file system that nobody set a target for, there is none. */
function targetsOf({ targets }, kind, caches) {
  const known = targets[kind];
  if (kind === 'ext4') {
    return Object.fromEntries(Object.entries(known).filter(([cache]) => caches.includes(cache)));
  }
  if (kind in targets) return { warm: known };
  return kind === 'xfs' || kind === 'btrfs' ? {} : { warm: undefined };
}

function ratiosOf({ qemu, ...ours }) {
  const ratio = ({ seconds, bareSeconds = 0 }) => seconds / (qemu.seconds + bareSeconds);
  return Object.fromEntries(Object.entries(ours).map(([name, medians]) => [name, ratio(medians)]));
}

function mainAndQemu(programs) {
  const [main] = Object.keys(programs);
  return { [main]: programs[main], qemu: programs.qemu };
}

async function measureCurve(curve, disk, programs, { dir, scale, runs }) {
  const points = [];
  for (const point of curve.points(scale)) {
    const label = curve.unit(point);
    progress(`curve ${curve.name} on ${disk}: ${label}`);
    const data = curve.data(point, scale);
    const medians = await onDisk(disk, dir, data, async (folder) => {
      const chain = await pristine(folder, (maker) => curve.make(maker, point, scale));
      return inTurns(chain, mainAndQemu(programs), { runs: Math.min(runs, CURVE_RUNS) });
    });
    points.push({ label, medians });
  }
  return { name: curve.name, disk, points };
}

function picture(curve, { disk, points }, results, main) {
  const both = ({ [main]: ours, qemu }, of) => ({ ours: of(ours), qemu: of(qemu) });
  return curveSvg({
    title: `${curve.title}: commit on ${disk}`,
    axis: curve.axis,
    points: points.map(({ label, medians }) => ({
      label,
      values: {
        seconds: both(medians, ({ seconds }) => seconds),
        mebibytes: both(medians, ({ peakBytes }) => peakBytes / MIB),
      },
    })),
    below: `${results.date}; ${results.machine}; ${main}; ${results.qemu}`,
  });
}

function tablesOf({ rows, curves }, nodes) {
  const counted = rows.filter(({ calls }) => calls !== undefined);
  return [
    ...(rows.length > 0 ? [matrixTable(rows, nodes), callsTable(counted, nodes[0])] : []),
    ...curves.map((curve) => curveTable(curve, nodes[0])),
  ].join('\n\n');
}

async function machine(ours) {
  const [cpu] = cpus();
  return {
    date: new Date().toISOString().slice(0, 16),
    machine:
      `${cpu?.model ?? 'unknown processor'}, ${cpus().length} processors, ` +
      `${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    load: loadavg().map((load) => Number(load.toFixed(2))),
    nodes: Object.values(ours).map(({ version }) => version),
    qemu: (await run(['qemu-img', '--version'])).split('\n')[0],
  };
}

function settings({ scale, runs }) {
  return { scale, runs };
}

function heading({ date, machine: words, load, nodes, qemu, scale, runs }) {
  return [
    `${date.replace('T', ' ')}, load ${load.join(' ')}`,
    words,
    `Node.js ${nodes.join(', ')}; ${qemu}`,
    `scale ${scale}, ${runs} runs of each in turns; medians; ratio: our time / qemu-img's`,
  ].join('\n');
}

/** Writes results under one name, as soon as there are some. */
function keeper(out, { date }) {
  mkdirSync(out, { recursive: true });
  const stem = join(out, date.replace(':', ''));
  return { stem, keep: (end, text) => writeFileSync(`${stem}${end}`, text) };
}

function progress(words) {
  if (process.stderr.isTTY) process.stderr.write(`\r${words}\x1b[K`);
  else if (words !== '') console.error(words);
}
