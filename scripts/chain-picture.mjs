// Draws a chain of images: one strip of cells for each layer, a cell standing for an equal share of
// the guest's disk. Knows no files: it is given layers, and returns lines of text.

const MIB = 1024 * 1024;
/** Columns before a strip. */
export const LABEL = 15;
const GLYPHS = { data: '█', zero: '░', none: '·' };
/** Of terminals, one for each layer from the base up: none of them hard to tell from its neighbour. */
const LAYER_COLOURS = [34, 32, 33, 35, 36, 31];

/** `on` false: every method returns its text as it is. */
export function painter(on) {
  const paint = (code) => (text) => (on ? `\x1b[${code}m${text}\x1b[0m` : text);
  return {
    bold: paint('1'),
    dim: paint('2'),
    good: paint('1;32'),
    bad: paint('1;31'),
    layer: (number) => paint(LAYER_COLOURS[number % LAYER_COLOURS.length]),
  };
}

/** What a layer itself holds: `cells` of 'data', 'zero' or 'none', and its bytes of data. */
export async function holdingsOf(layer, count) {
  const cells = new Array(count).fill('none');
  const cellBytes = layer.size / count;
  let dataBytes = 0;
  for await (const { kind, offset, length } of layer.extents()) {
    if (kind === 'unallocated') continue;
    if (kind === 'data') dataBytes += length;
    mark(cells, kind, Math.floor(offset / cellBytes), Math.ceil((offset + length) / cellBytes));
  }
  return { cells, dataBytes };
}

/** A cell that holds both shows the data. */
function mark(cells, kind, from, to) {
  for (let i = from; i < to; i++) if (cells[i] !== 'data') cells[i] = kind;
}

/**
 * Seen from above through layers (top first): for each cell the first layer that holds something
 * there, as { kind, number }; null where none does.
 */
export function viewThrough(layers) {
  const [first] = layers;
  return first.cells.map((_, i) => {
    const from = layers.find(({ cells }) => cells[i] !== 'none');
    return from === undefined ? null : { kind: from.cells[i], number: from.number };
  });
}

/** A layer's cells as glyphs; `numbers` says, for each cell, whose colour it wears. */
export function strip(cells, numbers, paint) {
  return cells.map((cell, i) => glyph(cell, GLYPHS[cell], numbers[i], paint)).join('');
}

/** A view as digits: the layer that each cell comes from; zeros and nothing as in other strips. */
export function digits(view, paint) {
  return view
    .map((cell) => {
      const { kind, number } = cell ?? { kind: 'none', number: 0 };
      return glyph(kind, kind === 'data' ? String(number) : GLYPHS[kind], number, paint);
    })
    .join('');
}

function glyph(kind, text, number, paint) {
  return kind === 'none' ? paint.dim(text) : paint.layer(number)(text);
}

/**
 * Rows from the top of the chain to its base, then the guest's view. A layer is
 * { name, number, cells, dataBytes, numbers?, dead? }: `numbers` as for `strip` (default: its own),
 * `dead` layers stay in their place, but the chain goes past them.
 */
export function drawChain(layers, paint) {
  const alive = layers.filter(({ dead }) => !dead);
  const rows = layers.map((layer) => drawLayer(layer, branchOf(layer, alive), paint));
  const guest = `${paint.bold('guest sees'.padEnd(LABEL))}${digits(viewThrough(alive), paint)}`;
  return [...rows, guest];
}

function branchOf(layer, alive) {
  if (layer.dead) return '│';
  if (layer === alive[0]) return '┌';
  return layer === alive.at(-1) ? '└' : '├';
}

function drawLayer({ name, number, cells, dataBytes, numbers, dead }, branch, paint) {
  const words = `${dead ? '✗' : number} ${name.padEnd(4)} ${mebibytes(dataBytes).padStart(3)} M`;
  const label = words.padEnd(LABEL - 1);
  if (dead) return branch + paint.dim(label + cells.map((cell) => GLYPHS[cell]).join(''));
  const wears = numbers ?? cells.map(() => number);
  return branch + paint.layer(number)(label) + strip(cells, wears, paint);
}

export function mebibytes(bytes) {
  return String(Math.round(bytes / MIB));
}
