// What `chain` tells people: the picture, a table of the layers, and below each layer what there is
// to know about it. Fitted to a width.

import { baseNameOf } from '../chain/filename.ts';
import type { Held } from '../chain/strip.ts';
import type { Survey, SurveyedLayer } from '../chain/survey.ts';
import { drawPicture, GLYPHS, markOf } from './chain-picture.ts';
import { humanBytes } from './plan-output.ts';
import { fitTo, type Paint, printable, widthOf, wrap } from './terminal.ts';

const NARROW = 72;
const RED = '1;31';
const YELLOW = '1;33';

export function chainText(survey: Survey, columns: number, paint: Paint): string {
  const { layers, size } = survey;
  const count = layers.length === 1 ? 'one layer' : `${layers.length} layers`;
  const picture = survey.longest === 0 ? [] : ['', ...drawPicture(survey, columns, paint)];
  const lines = [
    ...wrap(`${humanBytes(size)} disk in ${count}. ${legend(survey)}`, columns, ''),
    ...picture,
    '',
    ...details(survey, columns, paint),
    ...unread(survey, columns, paint),
  ];
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}

/** Who may stand on a layer without our knowing; a commit says the same. */
function unread({ unread: names }: Survey, columns: number, paint: Paint): readonly string[] {
  if (names.length === 0) return [];
  const shown = names.slice(0, MAX_UNREAD).map((name) => `'${name}'`);
  const more = names.length > shown.length ? ` and ${names.length - shown.length} more` : '';
  const text = `note: could not be read, and may depend on these: ${shown.join(', ')}${more}`;
  const [first = '', ...rest] = wrap(printable(text), columns, '  ');
  return ['', first.replace('note:', paint(YELLOW, 'note:')), ...rest];
}

function legend({ layers, longest }: Survey): string {
  if (longest === 0) return 'It is empty.';
  const unknown = layers.some(({ held }) => held.unknown > 0) ? `, ${GLYPHS.unknown} unknown` : '';
  const { data, hidden, zero, nothing } = GLYPHS;
  return `${data} data, ${hidden} hidden data, ${zero} zeros, ${nothing} nothing${unknown}`;
}

/** Names that are told of. */
const MAX_UNREAD = 10;

const HEADS = ['format', 'disk', 'file', 'data', 'hidden', 'zeros'] as const;

function details(survey: Survey, columns: number, paint: Paint): readonly string[] {
  const { layers } = survey;
  if (columns < NARROW) {
    return layers.flatMap((layer, index) => [
      ...narrowRow(layer, markAt(survey, index), columns),
      ...notes(survey, index, columns, paint),
    ]);
  }
  const cells = layers.map(columnsOf);
  const widths = HEADS.map((head, i) =>
    Math.max(head.length, ...cells.map((row) => widthOf(row[i] ?? ''))),
  );
  const taken = widths.reduce((sum, width) => sum + width + 2, 0);
  const longest = Math.max(4, ...layers.map(({ filename }) => widthOf(printable(filename))));
  const name = Math.max(8, Math.min(longest, columns - taken - 2));
  const row = (first: string, rest: readonly string[]) =>
    first + rest.map((cell, i) => `  ${align(cell, widths[i] ?? 0, i > 0)}`).join('');
  return [
    row(`  ${fitTo('layer', name)}`, HEADS),
    ...layers.flatMap((layer, index) => [
      row(`${markAt(survey, index)} ${fitTo(printable(layer.filename), name)}`, cells[index] ?? []),
      ...notes(survey, index, columns, paint),
    ]),
  ];
}

function align(cell: string, width: number, right: boolean): string {
  return right ? cell.padStart(width) : cell.padEnd(width);
}

function markAt({ layers }: Survey, index: number): string {
  return markOf(layers.length - 1 - index);
}

function columnsOf({ opened, held }: SurveyedLayer): readonly string[] {
  if (opened === null) return ['not open', '', '', '', '', ''];
  const { format, formatOrigin, size, allocatedBytes } = opened;
  const origin = formatOrigin === 'probed' ? ' (probed)' : '';
  const amounts = holds(held);
  return [`${format}${origin}`, humanBytes(size), humanBytes(allocatedBytes), ...amounts];
}

function holds({ data, hiddenData, zero, unknown }: Held): readonly string[] {
  if (unknown > 0 && data === 0 && zero === 0) return ['?', '?', '?'];
  const least = unknown > 0 ? '>=' : '';
  return [data, hiddenData, zero].map((bytes) => least + humanBytes(bytes));
}

function narrowRow(layer: SurveyedLayer, mark: string, columns: number): readonly string[] {
  const name = printable(layer.filename);
  const [format, disk, file, data, hidden, zeros] = columnsOf(layer);
  const words = layer.opened
    ? `${format}, disk ${disk}, file ${file}, data ${data}, hidden ${hidden}, zeros ${zeros}`
    : `${format}`;
  const first = `${mark} ${name}`;
  const head = widthOf(first) > columns ? fitTo(first, columns) : first;
  return [head, ...wrap(words, columns, '  ')];
}

/** How it is named, who else stands on it, what is wrong and what to do. */
function notes(survey: Survey, index: number, columns: number, paint: Paint): readonly string[] {
  const layer = survey.layers[index] as SurveyedLayer;
  const { filename, storedName, siblings, problems } = layer;
  const above = survey.layers[index - 1];
  const line = (text: string) => wrap(printable(text), columns, '    ');
  const named =
    above === undefined || storedName === filename
      ? []
      : line(`named '${storedName}' in ${baseNameOf(above.filename)}`);
  const also = siblings.length === 0 ? [] : line(`also below ${siblings.join(', ')}`);
  const wrong = problems.flatMap(({ severity, message, hint }) => {
    const [word, colour] = severity === 'error' ? ['broken', RED] : ['note', YELLOW];
    const [first = '', ...rest] = line(`${word}: ${message}`);
    return [first.replace(`${word}:`, paint(colour, `${word}:`)), ...rest, ...line(hint)];
  });
  return [...named, ...also, ...wrong];
}
