// What every verb needs of the process: its name, its outputs, its words for wrong usage.

import { fstatSync, writeSync } from 'node:fs';
import { basename } from 'node:path';
import { ImageError } from '../errors.ts';
import { encodeName } from '../io/name-bytes.ts';
import { corruptionBehind } from '../qcow2/corruption.ts';
import { hintFor } from './hints.ts';
import { BlockOutput } from './output.ts';
import { visible } from './visible.ts';

export interface ProgramContext {
  /** As messages begin: `qimg-ts`, or `qemu-img` when started through a link of that name. */
  readonly name: string;
  /** Keeps to what QEMU prints, and to its checks. */
  readonly asQemu: boolean;
  readonly env: NodeJS.ProcessEnv;
  /** Verbs are asked for the definition of their options instead of being run. */
  readonly definitionOnly?: boolean;
  out(text: string): void;
  /** Writes out what `out` may have kept. */
  flush?(): void;
  err(text: string): void;
  /** Prints an error, where to find help, and returns the exit code. */
  usageError(message: string): number;
}

/** The link that starts the storage daemon alone. */
export const STORAGE_DAEMON = 'qemu-storage-daemon';
/** Names to go by: of links, with which scripts start us in place of QEMU's. */
const QEMU_NAMES = ['qemu-img', STORAGE_DAEMON];

export function processContext(): ProgramContext {
  const started = basename(process.argv[1] ?? '').replace(/\.c?js$/, '');
  const asQemu = QEMU_NAMES.includes(started);
  return makeContext({
    asQemu,
    ...(asQemu && { name: started }),
    env: process.env,
    ...(started === 'qemu-img' && !isTerminal(1)
      ? outInBlocks()
      : { out: (text) => writeAll(1, text) }),
    err: (text) => writeAll(2, text),
  });
}

function isTerminal(fd: number): boolean {
  try {
    return fstatSync(fd).isCharacterDevice();
  } catch {
    return false;
  }
}

/** For scripts that read both outputs through one file, and expect them in QEMU's order. */
function outInBlocks(): Pick<ProgramContext, 'out' | 'flush'> {
  const output = new BlockOutput((bytes) => writeAll(1, bytes));
  const flush = () => output.flush();
  process.on('exit', flush);
  return { out: (text) => output.add(text), flush };
}

export function makeContext(
  parts: Pick<ProgramContext, 'asQemu' | 'env' | 'out' | 'flush' | 'err'> &
    Partial<Pick<ProgramContext, 'name'>>,
): ProgramContext {
  const name = parts.name ?? (parts.asQemu ? 'qemu-img' : 'qimg-ts');
  return {
    ...parts,
    name,
    usageError(message) {
      if (name === STORAGE_DAEMON) parts.err(`${name}: ${inWordsOfGetopt(message)}\n`);
      else parts.err(`${name}: ${message}\nTry '${name} --help' for more information\n`);
      return 1;
    },
  };
}

/** The storage daemon leaves these to the C library. */
function inWordsOfGetopt(message: string): string {
  return message.replace(/^missing argument for option (.*)$/, 'option $1 requires an argument');
}

/** Whole, in order, at once: scripts read both outputs through one file. */
function writeAll(fd: number, data: string | Uint8Array): void {
  const bytes = typeof data === 'string' ? encodeName(data) : data;
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN') throw error;
      // A pipe that is full for the moment: give its reader time.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** Hints that QEMU prints too. */
const QEMU_HINTS =
  /^(Is another process using the image|You can force-remove|Try block-dirty-bitmap-remove|kilobytes, megabytes|Check failed|warning: Shrinking)/;
export const isHintOfQemu = (hint: string) => QEMU_HINTS.test(hint);
/** Those that it prints as a message of their own. */
const WITH_NAME = /^(kilobytes|Check failed|warning: Shrinking)/;

/** One that QEMU tells of in two messages. */
export class TwoLineError extends ImageError {
  readonly first: string;

  constructor(first: string, error: ImageError) {
    const { code, message, errno, hint } = error;
    super(code, message, {
      findHolders: () => error.holders,
      ...(errno !== undefined && { errno }),
      ...(hint !== undefined && { hint }),
    });
    this.first = first;
  }
}

/** Those that QEMU tells of when it only reads. */
const TOLD_BY_READERS = /unaligned|^Zero cluster entry/;

/** What QEMU's driver prints by itself, before anybody tells what failed because of it. */
function reportCorruption(error: ImageError, program: ProgramContext): void {
  const found = corruptionBehind(error);
  if (found === undefined) return;
  const { words, marked } = found;
  if (marked) {
    program.err(
      `qcow2: Marking image as corrupt: ${words}; further corruption events will be suppressed\n`,
    );
  } else if (program.asQemu && TOLD_BY_READERS.test(words)) {
    program.err(
      `qcow2: Image is corrupt: ${words}; further non-fatal corruption events will be suppressed\n`,
    );
  }
}

/** Advice that QEMU gives too, for who does not have it. */
export function inOwnName(advice: string, { asQemu }: ProgramContext): string {
  return asQemu ? advice : advice.replaceAll('qemu-img check -r', 'qimg-ts check -r');
}

/** One whose words end with a line of QEMU's own; the names in it have none. */
export class TrailedError extends ImageError {
  readonly trail: string;

  constructor(message: string, trail: string, cause: ImageError) {
    const { hint } = cause;
    super('invalid', message, { cause, ...(hint !== undefined && { hint }) });
    this.trail = trail;
  }
}

/** How Node.js says that it got none: where an image is too large for the limits that we run under. */
function isOutOfMemory(error: unknown): boolean {
  return error instanceof RangeError && /allocation failed/.test(error.message);
}

/** Prints an error as `PROG: message`; anything but an ImageError is a bug of ours and is thrown. */
export function reportError(thrown: unknown, program: ProgramContext): number {
  const error = isOutOfMemory(thrown) ? new ImageError('unsupported', 'Out of memory') : thrown;
  if (!(error instanceof ImageError)) throw error;
  reportCorruption(error, program);
  if (error instanceof TwoLineError) program.err(`${program.name}: ${error.first}\n`);
  const shown = program.asQemu ? error.message : visible(error.message);
  const trail = error instanceof TrailedError ? `\n${error.trail}` : '';
  program.err(`${program.name}: ${shown}${trail}\n`);
  const hint = error.hint === undefined ? undefined : inOwnName(error.hint, program);
  const ofQemu = hint !== undefined && isHintOfQemu(hint);
  if (ofQemu) {
    const prefix = WITH_NAME.test(hint) ? `${program.name}: ` : '';
    program.err(`${prefix}${program.asQemu ? hint : visibleHint(hint)}\n`);
  }
  if (program.asQemu || (ofQemu && error.code !== 'busy')) return 1;
  const advice = ofQemu ? hintFor(error) : (hint ?? hintFor(error));
  if (advice !== undefined) program.err(`${visibleHint(advice)}\n`);
  return 1;
}

/** The line breaks of a hint are its own, but for one that is QEMU's question with a name in it. */
function visibleHint(hint: string): string {
  return hint.startsWith('Is another') ? visible(hint) : hint.split('\n').map(visible).join('\n');
}
