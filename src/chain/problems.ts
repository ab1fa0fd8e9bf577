// What can be wrong with a layer of a chain: in words, and what to do next.

import { type ImageError, onOneLine } from '../errors.ts';
import type { Layer } from '../layer.ts';
import { Qcow2Image } from '../qcow2/image.ts';
import { rebaseCommand, shellWord } from './advice.ts';
import { baseNameOf } from './filename.ts';

export type ProblemKind =
  /** The file is not there. */
  | 'missing'
  /** The backing file is a layer further up. */
  | 'loop'
  | 'too-deep'
  /** Another process writes to it. */
  | 'busy'
  /** It can't be opened, or not read. */
  | 'unreadable'
  /** Marked corrupt. */
  | 'corrupt'
  /** Was not closed properly. */
  | 'dirty'
  /** Tables or data lie behind the end of the file. */
  | 'truncated'
  /** Its tables contradict the format. */
  | 'damaged'
  | 'unsupported'
  /** Its overlay does not store which format it has. */
  | 'format-not-stored';

export interface Problem {
  readonly kind: ProblemKind;
  /** `error`: not all of the guest's disk can be read. */
  readonly severity: 'error' | 'warning';
  readonly message: string;
  /** What to do next. */
  readonly hint: string;
  /** Found while its extents were read. */
  readonly ofExtents?: boolean;
}

/** Where the format of a layer was taken from. */
export type FormatOrigin = 'given' | 'stored' | 'probed';

export interface Place {
  readonly filename: string;
  readonly storedName: string;
  /** The overlay; none for the top. */
  readonly above: string | undefined;
  readonly origin: FormatOrigin;
}

const NEW_NAME = 'NEW-NAME';

export function loopProblem(filename: string, above: string): Problem {
  return {
    kind: 'loop',
    severity: 'error',
    message: `'${filename}' is a layer further up: the chain is a loop`,
    hint: `Make '${above}' stand on its true backing file: ${rebaseCommand(above, NEW_NAME, 'FORMAT')}`,
  };
}

export function deepProblem(most: number): Problem {
  return {
    kind: 'too-deep',
    severity: 'error',
    message: `The chain has more than ${most} layers`,
    hint: 'Merge some of them: qimg-ts commit --top LAYER -b LOWER-LAYER FILE',
  };
}

/** A backing file that could not be opened. */
export function openProblem(error: ImageError, place: Place): Problem {
  const { filename, above = filename } = place;
  const severity = 'error';
  const { message } = error;
  if (error.errno === 'ENOENT') {
    const name = baseNameOf(filename);
    return {
      kind: 'missing',
      severity,
      message: `'${filename}', the backing file of '${above}', is missing`,
      hint:
        `Find it (find / -name ${shellWord(name)}) and put it back, or name where it is now: ` +
        rebaseCommand(above, NEW_NAME, 'FORMAT'),
    };
  }
  if (error.code === 'busy') {
    return { kind: 'busy', severity, message, hint: 'Look at it all the same with -U.' };
  }
  if (error.code === 'unsupported') {
    const hint = 'qemu-img info --backing-chain may tell more about it.';
    return { kind: 'unsupported', severity, message, hint };
  }
  return { kind: 'unreadable', severity, message, hint: unreadableHint(error, place) };
}

function unreadableHint(error: ImageError, { filename, storedName, above }: Place): string {
  if (error.errno === 'EACCES' || error.errno === 'EPERM') {
    return 'Run this as a user who may read it.';
  }
  if (error.code === 'format' && above !== undefined) {
    return (
      `If it is a raw file, store that in '${above}': ` +
      `${rebaseCommand(above, storedName, 'raw')}; else restore it from a backup.`
    );
  }
  return `qimg-ts info ${shellWord(filename)} says what can be known of it.`;
}

/** What was found when its extents were read. */
export function extentsProblem(error: ImageError, filename: string): Problem {
  const cut = /past the end of the file/.test(error.message);
  const kind = cut ? 'truncated' : error.code === 'corrupt' ? 'damaged' : 'unreadable';
  const hint = cut
    ? 'The file was cut short, by a copy that did not end or a full disk: copy it again.'
    : `qimg-ts check ${shellWord(filename)} lists what is wrong with it.`;
  return { kind, severity: 'error', message: error.message, hint, ofExtents: true };
}

/** What an open layer says about itself. */
export function problemsOf(layer: Layer, place: Place): readonly Problem[] {
  return [...formatProblems(layer, place), ...stateProblems(layer, place.filename)];
}

function formatProblems(layer: Layer, place: Place): readonly Problem[] {
  const { storedName, above, origin } = place;
  if (above === undefined || origin !== 'probed') return [];
  return [
    {
      kind: 'format-not-stored',
      severity: 'warning',
      message: `'${above}' does not store the format of '${storedName}': ${layer.format} is a guess`,
      hint: `If it is right, store it: ${rebaseCommand(above, storedName, layer.format)}`,
    },
  ];
}

function stateProblems(layer: Layer, filename: string): readonly Problem[] {
  if (!(layer instanceof Qcow2Image)) return [];
  const problems: Problem[] = [];
  const repair = `qimg-ts check -r all ${shellWord(filename)}`;
  if (layer.corrupt) {
    problems.push({
      kind: 'corrupt',
      severity: 'warning',
      message: `'${filename}' is marked corrupt: it can be read, not written to`,
      hint: `Run: ${repair}`,
    });
  }
  if (layer.dirty) {
    problems.push({
      kind: 'dirty',
      severity: 'warning',
      message: `'${filename}' was not closed properly: its refcounts are out of date`,
      hint: `They are rebuilt when it is next opened for writing, or now by: ${repair}`,
    });
  }
  // What is encrypted is no problem: where it lies is known without the key.
  const refusal = layer.locked ? undefined : layer.data.refusal;
  if (refusal !== undefined) {
    problems.push({
      kind: 'unreadable',
      severity: 'error',
      message: `'${filename}' keeps its data in another file: ${refusal.message}`,
      hint: `Bring back the data file${layer.header.dataFile === null ? '' : ` '${onOneLine(layer.header.dataFile)}'`}.`,
    });
  }
  const feature = layer.locked ? null : layer.unsupportedForReading;
  if (feature !== null) {
    problems.push({
      kind: 'unsupported',
      severity: 'warning',
      message: `'${filename}' uses ${feature}: what it holds is not known`,
      hint: `qemu-img map ${shellWord(filename)} can tell.`,
    });
  }
  return problems;
}
