// Draws a chain as a self-contained SVG: a strip for each layer, to scale, light and dark as the
// reader has it. Names are escaped; each part tells its byte range when pointed at.

import { baseNameOf } from '../chain/filename.ts';
import { type Cell, type Strip, seenIn } from '../chain/strip.ts';
import type { Survey, SurveyedLayer } from '../chain/survey.ts';
import { humanBytes } from './plan-output.ts';
import { fitTo, printable } from './terminal.ts';

export const SVG_CELLS = 960;
const LEFT = 232;
const STRIP = 720;
const WIDTH = LEFT + STRIP + 24;
const ROW = 46;
const BAR = 22;
const TOP = 76;
const NAME_COLUMNS = 26;

interface Palette {
  readonly paper: string;
  readonly ink: string;
  readonly faint: string;
  readonly none: string;
  readonly layers: readonly string[];
}
const LIGHT: Palette = {
  paper: '#fff',
  ink: '#1c2530',
  faint: '#66717f',
  none: '#eceff3',
  layers: ['#2f6fde', '#1f8a4c', '#b7791f', '#a03bb5', '#0d8a96', '#c7413c'],
};
const DARK: Palette = {
  paper: '#14181e',
  ink: '#e4e9f0',
  faint: '#98a3b1',
  none: '#242b35',
  layers: ['#6aa2ff', '#52c483', '#e0a94a', '#d583e6', '#45c7d3', '#f0807a'],
};
const COLOURS = LIGHT.layers.length;

/** Plain rules: not every viewer knows variables. */
function rules({ paper, ink, faint, none, layers }: Palette): string {
  const named = [
    `.paper{fill:${paper}} text{fill:${ink}} .none{fill:${none}}`,
    `.small,.stripe{fill:${faint}} .small.wrong{fill:${layers.at(-1)}}`,
  ];
  return [...named, ...layers.map((colour, i) => `.c${i}{fill:${colour}}`)].join(' ');
}

const STYLE = `
text{font:13px system-ui,sans-serif} .small{font-size:11px} .title{font-size:16px;font-weight:600}
.unknown{fill:url(#unknown)} .zero{opacity:.35} .hidden{opacity:.5}
${rules(LIGHT)}
@media (prefers-color-scheme:dark){${rules(DARK)}}
`;
const DEFS = `<defs>
  <pattern id="unknown" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
    <rect width="6" height="6" class="none"/><rect width="2" height="6" class="stripe"/>
  </pattern>
</defs>`;

export function chainSvg(survey: Survey): string {
  const { layers, size } = survey;
  const height = TOP + (layers.length + 1) * ROW + 28;
  const top = layers[0]?.filename ?? '';
  const title = `${baseNameOf(top)}: ${humanBytes(size)} disk in ${layers.length} layers`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" ` +
      `viewBox="0 0 ${WIDTH} ${height}" role="img">`,
    `<title>${escapeXml(title)}</title>`,
    `<style>${STYLE}</style>`,
    DEFS,
    `<rect class="paper" width="${WIDTH}" height="${height}"/>`,
    label(20, 32, title, 'title'),
    legend(),
    ...layers.map((layer, index) => drawLayer(survey, layer, index)),
    drawGuest(survey),
    scale(survey, height),
    '</svg>\n',
  ].join('\n');
}

function legend(): string {
  const entries: readonly [string, string][] = [
    ['c0', 'data that the guest sees'],
    ['c0 hidden', 'hidden by a layer above'],
    ['c0 zero', 'zeros'],
    ['none', 'nothing: falls through'],
    ['unknown', 'not known'],
  ];
  return entries
    .map(([style, text], i) => {
      const x = 20 + i * 186;
      // Hidden data is half as high, as in the strips.
      const thin = style.endsWith('hidden');
      const box = `x="${x}" y="${thin ? 53 : 48}" width="12" height="${thin ? 5 : 10}"`;
      return `<rect class="${style}" ${box}/>${label(x + 18, 57, text, 'small')}`;
    })
    .join('\n');
}

function drawLayer(survey: Survey, layer: SurveyedLayer, index: number): string {
  const { layers, longest } = survey;
  const number = layers.length - 1 - index;
  const y = TOP + index * ROW;
  const size = layer.opened?.size ?? longest;
  const wrong = layer.problems.map(({ message, hint }) => `\n${message}\n${hint}`).join('');
  const broken = layer.problems.length > 0;
  const about = `${number}: ${layer.filename}${wrong}`;
  const parts = groups(layer.strip, (cell) => partOf(cell)).map(({ kind, first, last }) =>
    kind === ''
      ? ''
      : segment(layer.strip, y, kind, number, first, last, `${baseNameOf(layer.filename)}: `),
  );
  return [
    '<g>',
    `<title>${escapeXml(about)}</title>`,
    label(
      20,
      y + 13,
      `${number}  ${fitTo(printable(baseNameOf(layer.filename)), NAME_COLUMNS)}`,
      '',
    ),
    label(
      20,
      y + 28,
      broken ? problemWord(layer) : amounts(layer),
      broken ? 'small wrong' : 'small',
    ),
    `<rect class="none" x="${LEFT}" y="${y}" width="${round(xOf(size, longest))}" height="${BAR}"/>`,
    ...parts.filter(Boolean),
    '</g>',
  ].join('\n');
}

function amounts({ held, opened }: SurveyedLayer): string {
  const hidden = held.hiddenData > 0 ? `, ${humanBytes(held.hiddenData)} hidden` : '';
  return `${opened?.format ?? ''}, ${humanBytes(held.data)} data${hidden}`;
}

function problemWord({ problems }: SurveyedLayer): string {
  return `! ${problems.map(({ kind }) => kind.replaceAll('-', ' ')).join(', ')}`;
}

type Part = '' | 'data' | 'hidden' | 'zero' | 'unknown';

function partOf({ data, hiddenData, zero, unknown }: Cell): Part {
  if (data > hiddenData) return 'data';
  if (data > 0) return 'hidden';
  if (zero > 0) return 'zero';
  return unknown > 0 ? 'unknown' : '';
}

interface Group<Kind> {
  readonly kind: Kind;
  readonly first: number;
  last: number;
}

/** Neighbouring cells of one kind. */
function groups<Kind>(strip: Strip, kindOf: (cell: Cell, index: number) => Kind): Group<Kind>[] {
  const found: Group<Kind>[] = [];
  for (let i = 0; i < strip.length; i++) {
    const kind = kindOf(strip.cell(i), i);
    const group = found.at(-1);
    if (group?.kind === kind) group.last = i;
    else found.push({ kind, first: i, last: i });
  }
  return found;
}

const WORDS: Readonly<Record<Exclude<Part, ''>, string>> = {
  data: 'data',
  hidden: 'data, hidden',
  zero: 'zeros',
  unknown: 'not known',
};

function segment(
  strip: Strip,
  y: number,
  kind: Exclude<Part, ''>,
  number: number,
  first: number,
  last: number,
  prefix: string,
): string {
  const { from } = strip.cell(first);
  const { to } = strip.cell(last);
  const disk = strip.cellSize * strip.length;
  const x = LEFT + xOf(from, disk);
  // What is there stays visible, however small it is.
  const width = Math.max(0.8, xOf(to - from, disk));
  const thin = kind === 'hidden';
  const style = kind === 'unknown' ? kind : `c${number % COLOURS} ${kind}`;
  const text = `${prefix}${WORDS[kind]}, bytes ${from} to ${to - 1} (${humanBytes(to - from)})`;
  return (
    `<rect class="${style}" x="${round(x)}" y="${thin ? y + BAR / 2 : y}" ` +
    `width="${round(width)}" height="${thin ? BAR / 2 : BAR}">` +
    `<title>${escapeXml(text)}</title></rect>`
  );
}

/** The last row: for each part the layer that the guest sees there. */
function drawGuest(survey: Survey): string {
  const { layers, size, longest } = survey;
  const strips = layers.map(({ strip }) => strip);
  const [first] = strips;
  if (first === undefined || longest === 0) return '';
  const y = TOP + layers.length * ROW;
  const inside = (i: number) => i * first.cellSize < size;
  const seen = groups(first, (_, i) => {
    const { kind, layer } = inside(i) ? seenIn(strips, i) : { kind: 'nothing', layer: 0 };
    return kind === 'nothing' ? '' : `${kind} ${layer}`;
  });
  const parts = seen.flatMap(({ kind, first: from, last }) => {
    if (kind === '') return [];
    const [word, at] = kind.split(' ') as [Exclude<Part, ''>, string];
    const number = layers.length - 1 - Number(at);
    const name = baseNameOf(layers[Number(at)]?.filename ?? '');
    return [guestSegment(first, y, word, number, from, last, `seen: ${name}, `)];
  });
  return [
    '<g>',
    label(20, y + 15, 'the guest sees', ''),
    `<rect class="none" x="${LEFT}" y="${y}" width="${round(xOf(size, longest))}" height="${BAR}"/>`,
    ...parts,
    '</g>',
  ].join('\n');
}

function guestSegment(
  strip: Strip,
  y: number,
  kind: Exclude<Part, ''>,
  number: number,
  first: number,
  last: number,
  prefix: string,
): string {
  const cell = STRIP / strip.length;
  const from = first * strip.cellSize;
  const to = (last + 1) * strip.cellSize;
  const style = kind === 'unknown' ? kind : `c${number % COLOURS} ${kind}`;
  const text = `${prefix}${WORDS[kind]}, about bytes ${from} to ${to - 1}`;
  return (
    `<rect class="${style}" x="${round(LEFT + first * cell)}" y="${y}" ` +
    `width="${round((last + 1 - first) * cell)}" height="${BAR}">` +
    `<title>${escapeXml(text)}</title></rect>`
  );
}

function scale({ longest }: Survey, height: number): string {
  const y = height - 14;
  const end = `<text class="small" x="${LEFT + STRIP}" y="${y}" text-anchor="end">`;
  return `${label(LEFT, y, '0', 'small')}${end}${humanBytes(longest)}</text>`;
}

function xOf(bytes: number, disk: number): number {
  return disk === 0 ? 0 : (bytes / disk) * STRIP;
}

const round = (value: number): number => Number(value.toFixed(2));

function label(x: number, y: number, text: string, style: string): string {
  const named = style === '' ? '' : ` class="${style}"`;
  return `<text${named} x="${x}" y="${y}" xml:space="preserve">${escapeXml(text.trimEnd())}</text>`;
}

/** Also what XML can't hold at all. */
export function escapeXml(text: string): string {
  const safe = [...text].map((char) => (char === '\n' ? char : printable(char))).join('');
  return safe
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replace(/[\ufffe\uffff]/g, '\ufffd');
}
