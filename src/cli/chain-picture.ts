// Draws a chain for a terminal: one strip for each layer, from the top down, each cell an equal share
// of the longest disk; then what the guest sees. Pure: a survey in, lines out.

import { baseNameOf } from '../chain/filename.ts';
import { type Strip, seenIn } from '../chain/strip.ts';
import type { Survey, SurveyedLayer } from '../chain/survey.ts';
import { fitTo, type Paint, printable, widthOf } from './terminal.ts';

export const GLYPHS = { data: '█', hidden: '▒', zero: '░', nothing: '·', unknown: '?', end: ' ' };
type Glyph = keyof typeof GLYPHS;

/** One for each layer from the base up: none of them hard to tell from its neighbour. */
const COLOURS = ['34', '32', '33', '35', '36', '31'];
const DIM = '2';
const BOLD = '1';
const MARKS = '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
const LONGEST_NAME = 24;
const FEWEST_CELLS = 8;
const GUEST = 'guest sees';

export interface Layout {
  /** Columns of the name in front of a strip. */
  readonly name: number;
  readonly cells: number;
}

/** How the width is shared: names get what they need, up to a third. */
export function layoutFor(columns: number, filenames: readonly string[]): Layout {
  const widths = filenames.map((name) => widthOf(printable(baseNameOf(name))));
  const longest = Math.max(GUEST.length, ...widths);
  const room = Math.max(6, Math.floor(columns / 3) - PREFIX);
  const name = Math.min(longest, LONGEST_NAME, room);
  return { name, cells: Math.max(FEWEST_CELLS, columns - name - PREFIX - 1) };
}

/** Branch, mark, blank. */
const PREFIX = 4;

/** The character that stands for a layer in the guest's row; `+` for those past the last letter. */
export function markOf(number: number): string {
  return MARKS[number] ?? '+';
}

export function drawPicture(survey: Survey, columns: number, paint: Paint): readonly string[] {
  const { layers } = survey;
  const layout = layoutFor(
    columns,
    layers.map(({ filename }) => filename),
  );
  const rows = layers.map((layer, index) => {
    const number = layers.length - 1 - index;
    const colour = COLOURS[number % COLOURS.length] as string;
    const branch = branchOf(index, layers.length);
    const name = fitTo(printable(baseNameOf(layer.filename)), layout.name);
    const label = `${markOf(number)} ${name} `;
    return `${branch} ${paint(colour, label)}${strip(survey, layer, colour, paint)}`;
  });
  const guest = `  ${paint(BOLD, fitTo(`  ${GUEST}`, layout.name + 3))}`;
  return [...rows, guest + guestRow(survey, paint)];
}

function branchOf(index: number, count: number): string {
  if (count === 1) return '─';
  if (index === 0) return '┌';
  return index === count - 1 ? '└' : '├';
}

function strip(survey: Survey, layer: SurveyedLayer, colour: string, paint: Paint): string {
  const size = layer.opened?.size ?? survey.longest;
  const cells = Array.from({ length: layer.strip.length }, (_, i) => glyphOf(layer.strip, i, size));
  return runs(cells.map((glyph) => [isFaint(glyph) ? DIM : colour, GLYPHS[glyph]])).reduce(
    (line, [codes, text]) => line + paint(codes, text),
    '',
  );
}

const isFaint = (glyph: Glyph): boolean => glyph === 'nothing' || glyph === 'end';

/** Data that the guest sees before data that is hidden, before zeros. */
function glyphOf(strip: Strip, index: number, size: number): Glyph {
  if (index * strip.cellSize >= size) return 'end';
  const { data, hiddenData, zero, unknown } = strip.cell(index);
  if (data > hiddenData) return 'data';
  if (data > 0) return 'hidden';
  if (zero > 0) return 'zero';
  return unknown > 0 ? 'unknown' : 'nothing';
}

/** The layer that each cell comes from, by its mark; zeros and nothing as in other strips. */
function guestRow({ layers, size }: Survey, paint: Paint): string {
  const strips = layers.map((layer) => layer.strip);
  const [first] = strips;
  if (first === undefined) return '';
  const cells = Array.from({ length: first.length }, (_, i): [string, string] => {
    if (i * first.cellSize >= size) return [DIM, GLYPHS.end];
    const { kind, layer } = seenIn(strips, i);
    if (kind === 'nothing') return [DIM, GLYPHS.nothing];
    const number = layers.length - 1 - layer;
    const colour = COLOURS[number % COLOURS.length] as string;
    return [colour, kind === 'data' ? markOf(number) : GLYPHS[kind]];
  });
  return runs(cells).reduce((line, [codes, text]) => line + paint(codes, text), '');
}

/** Neighbours of one colour together. */
function runs(cells: readonly (readonly [string, string])[]): readonly [string, string][] {
  const merged: [string, string][] = [];
  for (const [codes, text] of cells) {
    const last = merged.at(-1);
    if (last?.[0] === codes) last[1] += text;
    else merged.push([codes, text]);
  }
  return merged;
}
