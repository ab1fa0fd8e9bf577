// Results in words: the matrix, and what each program did.

const MIB = 2 ** 20;

/** Rows of the matrix as bench/commit.mjs collects them; `nodes` are the names of our programs. */
export function matrixTable(rows, nodes) {
  const [main, ...others] = nodes;
  const heads = ['row', 'on', 'cache', 'ours s', 'qemu s', 'ratio', 'target', ''];
  const more = [...others.map((name) => `ratio ${name}`), 'MiB', 'qemu', 'bound', ''];
  return columns([
    [...heads, ...more, 'about'],
    ...rows.map((row) => [
      row.name,
      row.disk,
      row.cache,
      row.medians[main].seconds.toFixed(3),
      row.medians.qemu.seconds.toFixed(3),
      row.ratios[main].toFixed(3),
      row.target === undefined ? '-' : row.target.toFixed(2),
      verdict(row.ratios[main], row.target),
      ...others.map((name) => row.ratios[name].toFixed(3)),
      inMib(row.medians[main].peakBytes),
      inMib(row.medians.qemu.peakBytes),
      inMib(row.memory),
      verdict(row.medians[main].peakBytes, row.memory),
      row.about,
    ]),
  ]);
}

function verdict(value, bound) {
  if (bound === undefined) return '';
  return value <= bound ? 'ok' : 'MISSED';
}

function inMib(bytes) {
  return String(Math.round(bytes / MIB));
}

/** System calls of both, and on what shares extents: what base shares, and the space used. */
export function callsTable(rows, main) {
  const kinds = Object.keys(rows[0].calls[main]);
  const words = (row, of) => ['shared', 'used'].map((key) => inMib(row.sharing[of][key]));
  const sharing = (row) =>
    row.sharing === undefined ? ['', '', '', ''] : [...words(row, main), ...words(row, 'qemu')];
  return columns([
    [
      'calls',
      'on',
      ...kinds.flatMap((kind) => [kind, 'qemu']),
      ...['shared MiB', 'used MiB', "qemu's shared", 'used'],
    ],
    ...rows.map((row) => [
      row.name,
      row.disk,
      ...kinds.flatMap((kind) => [String(row.calls[main][kind]), String(row.calls.qemu[kind])]),
      ...sharing(row),
    ]),
  ]);
}

/** Points of one growth curve. */
export function curveTable({ name, disk, points }, main) {
  return columns([
    [name, 'on', 'ours s', 'qemu s', 'ratio', 'MiB', 'qemu'],
    ...points.map(({ label, medians }) => [
      label,
      disk,
      medians[main].seconds.toFixed(3),
      medians.qemu.seconds.toFixed(3),
      (medians[main].seconds / medians.qemu.seconds).toFixed(3),
      inMib(medians[main].peakBytes),
      inMib(medians.qemu.peakBytes),
    ]),
  ]);
}

const WORDS = new Set(['row', 'on', 'cache', 'calls', '', 'about']);

/** Words to the left, numbers to the right. */
function columns(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  const isWords = (i) => i === 0 || WORDS.has(rows[0][i]);
  const line = (row) =>
    row
      .map((cell, i) => (isWords(i) ? cell.padEnd(widths[i]) : cell.padStart(widths[i])))
      .join('  ')
      .trimEnd();
  return rows.map(line).join('\n');
}
