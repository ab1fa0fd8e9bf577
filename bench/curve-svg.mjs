// Draws a growth curve as a self-contained SVG: seconds, and peak memory beside them, ours and
// QEMU's. The horizontal axis doubles from point to point.

const WIDTH = 960;
const HEIGHT = 400;
const PANEL = { width: 380, height: 250, top: 84 };
const STYLE = `
text{font:12px system-ui,sans-serif;fill:#1c2530} .title{font-size:16px;font-weight:600}
.small{font-size:11px;fill:#66717f} .paper{fill:#fff} .grid{stroke:#dfe3e8} polyline{fill:none;stroke-width:2}
.ours{stroke:#2f6fde} .qemu{stroke:#c7413c;stroke-dasharray:6 4} circle{stroke:none}
circle.ours{fill:#2f6fde} circle.qemu{fill:#c7413c}
@media (prefers-color-scheme:dark){text{fill:#e4e9f0} .small{fill:#98a3b1} .paper{fill:#14181e}
.grid{stroke:#242b35} .ours{stroke:#6aa2ff} .qemu{stroke:#f0807a} circle.ours{fill:#6aa2ff} circle.qemu{fill:#f0807a}}`;

/**
 * `points`: { label, values: { seconds: { ours, qemu }, mebibytes: { ours, qemu } } }; `below` is a
 * line of small print.
 */
export function curveSvg({ title, axis, points, below }) {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" ` +
      `viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">`,
    `<title>${escapeXml(title)}</title><style>${STYLE}</style>`,
    `<rect class="paper" width="${WIDTH}" height="${HEIGHT}"/>`,
    text(24, 32, title, 'title'),
    ...legend(24, 54),
    ...panel(64, 'seconds', axis, points, 'seconds'),
    ...panel(64 + PANEL.width + 84, 'MiB at the most', axis, points, 'mebibytes'),
    text(24, HEIGHT - 12, below, 'small'),
    '</svg>\n',
  ].join('\n');
}

function legend(x, y) {
  return ['ours', 'qemu'].flatMap((who, i) => [
    `<line class="${who}" stroke-width="2" x1="${x + i * 120}" x2="${x + i * 120 + 26}" y1="${y - 4}" y2="${y - 4}"/>`,
    text(x + i * 120 + 32, y, who === 'ours' ? 'qimg-ts' : 'qemu-img'),
  ]);
}

function panel(left, heading, axis, points, key) {
  const values = points.flatMap(({ values: of }) => [of[key].ours, of[key].qemu]);
  const { y, ticks } = scaleOf(values);
  const x = (i) => left + (PANEL.width * (i + 0.5)) / points.length;
  const bottom = PANEL.top + PANEL.height;
  const every = Math.ceil(points.length / 7);
  return [
    text(left, PANEL.top - 10, heading, 'small'),
    ...ticks.flatMap((tick) => [
      `<line class="grid" x1="${left}" x2="${left + PANEL.width}" y1="${y(tick)}" y2="${y(tick)}"/>`,
      text(left - 6, y(tick) + 4, String(tick), 'small', 'end'),
    ]),
    ...points.flatMap(({ label }, i) =>
      i % every === 0 ? [text(x(i), bottom + 16, label, 'small', 'middle')] : [],
    ),
    text(left + PANEL.width / 2, bottom + 34, axis, 'small', 'middle'),
    ...['qemu', 'ours'].flatMap((who) => line(points, who, key, x, y)),
  ];
}

function line(points, who, key, x, y) {
  const at = points.map(({ values }, i) => [x(i), y(values[key][who]), values[key][who]]);
  return [
    `<polyline class="${who}" points="${at.map(([px, py]) => `${px},${py}`).join(' ')}"/>`,
    ...at.map(
      ([px, py, value], i) =>
        `<circle class="${who}" cx="${px}" cy="${py}" r="3">` +
        `<title>${escapeXml(`${points[i].label}: ${value.toFixed(3)}`)}</title></circle>`,
    ),
  ];
}

/** From zero where the values are of one magnitude; else each line of the grid is ten times the last. */
function scaleOf(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  const place = (share) => round(PANEL.top + PANEL.height * (1 - share));
  if (most / least < 20) {
    const step = niceStep(most / 4);
    const end = Math.ceil(most / step) * step;
    const ticks = Array.from({ length: Math.round(end / step) + 1 }, (_, i) => round(i * step));
    return { y: (value) => place(value / end), ticks };
  }
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => Number(`1e${low + i}`));
  return { y: (value) => place((Math.log10(value) - low) / (high - low)), ticks };
}

/** 1, 2 or 5 times a power of ten, at least `step`. */
function niceStep(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * [1, 2, 5, 10].find((n) => n * power >= step);
}

function round(value) {
  return Number(value.toFixed(4));
}

function text(x, y, words, style = '', anchor = 'start') {
  return `<text x="${round(x)}" y="${round(y)}" class="${style}" text-anchor="${anchor}">${escapeXml(words)}</text>`;
}

function escapeXml(words) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return words.replace(/[&<>"]/g, (character) => entities[character]);
}
