// QEMU's own programs, the judges of what we write. Missing ones are an error, never a skip.

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

const INSTALL = 'apt-get install -y qemu-utils qemu-system-common';

/** Runs a program to its end, whatever its exit code. */
export function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: NodeJS.ProcessEnv } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const limit = { ...options, maxBuffer: 64 * 1024 * 1024 };
    execFile(program, [...args], limit, (error, stdout, stderr) => {
      const code: unknown = error?.code;
      if (code === 'ENOENT') {
        reject(new Error(`${program} is missing. Install it with: ${INSTALL}`));
      } else if (error && typeof code !== 'number') reject(error);
      else resolve({ code: typeof code === 'number' ? code : 0, stdout, stderr });
    });
  });
}

/** Runs a program that has to succeed; returns its stdout. */
export const must = (program: string, ...args: readonly string[]): Promise<string> =>
  mustIn(process.cwd(), program, ...args);

export async function mustIn(
  cwd: string,
  program: string,
  ...args: readonly string[]
): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, { cwd });
  if (code !== 0) {
    throw new Error(`${program} ${args.join(' ')}: exit ${code}\n${stdout}${stderr}`);
  }
  return stdout;
}

export const qemuImg = (...args: readonly string[]): Promise<string> => must('qemu-img', ...args);

/** qemu-io with all commands in one process; fails where one of them says that it failed. */
export async function qemuIo(
  file: string,
  commands: readonly string[],
  format = 'qcow2',
  cwd = process.cwd(),
): Promise<void> {
  if (commands.length === 0) return;
  const args = ['-f', format, ...commands.flatMap((command) => ['-c', command]), file];
  const output = await mustIn(cwd, 'qemu-io', ...args);
  if (/failed|error|invalid/i.test(output)) throw new Error(`qemu-io ${args.join(' ')}\n${output}`);
}

/** QEMU looks for external data files in the directory that it runs in. */
const beside = (file: string, ...args: readonly string[]): Promise<string> =>
  mustIn(dirname(file), 'qemu-img', ...args);

/** Throws unless `qemu-img check` finds neither corruption nor leaks. */
export async function checkClean(file: string): Promise<void> {
  const args = ['check', '-f', 'qcow2', file];
  const { code, stdout, stderr } = await run('qemu-img', args, { cwd: dirname(file) });
  if (code !== 0) throw new Error(`qemu-img check ${file}: exit ${code}\n${stdout}${stderr}`);
}

/** Throws unless both images show the guest the same bytes; a longer one must end in zeros. */
export async function compare(a: string, fmtA: string, b: string, fmtB: string): Promise<void> {
  const options = ['--image-opts', imageOptions(a, fmtA), imageOptions(b, fmtB)];
  await beside(a, 'compare', ...options);
}

function imageOptions(file: string, format: string): string {
  const data = format === 'qcow2' ? dataFileOf(file) : undefined;
  const place = data === undefined ? '' : `,data-file.filename=${join(dirname(file), data)}`;
  return `driver=${format},file.filename=${file}${place}`;
}

/** The name in the header extension. */
function dataFileOf(file: string): string | undefined {
  const start = readFileSync(file).subarray(0, 4096);
  const at = start.indexOf('DATA', 100);
  if (at < 0) return undefined;
  return start.toString('utf8', at + 8, at + 8 + start.readUInt32BE(at + 4));
}

/** The guest's view through an image, as QEMU reads it. */
export async function viewOf(file: string, format: string, scratch: string): Promise<Buffer> {
  await beside(file, 'convert', '-f', format, '-O', 'raw', file, scratch);
  return readFile(scratch);
}

/**
 * What an internal snapshot holds in this image alone, as if there were nothing below it: what lies
 * below may change with a commit, this must not.
 */
export async function snapshotOwn(file: string, name: string, scratch: string): Promise<Buffer> {
  const alone = { driver: 'qcow2', file: { driver: 'file', filename: file }, backing: null };
  const snapshot = `snapshot.name=${name}`;
  await beside(
    file,
    'convert',
    '-l',
    snapshot,
    '-O',
    'raw',
    `json:${JSON.stringify(alone)}`,
    scratch,
  );
  return readFile(scratch);
}

export interface MapEntry {
  readonly start: number;
  readonly length: number;
  readonly depth: number;
  readonly present: boolean;
  readonly zero: boolean;
  readonly data: boolean;
  readonly offset?: number;
}

export async function mapOf(file: string, format = 'qcow2'): Promise<readonly MapEntry[]> {
  return JSON.parse(await beside(file, 'map', '--output=json', '-f', format, file)) as MapEntry[];
}

export interface ImageInfo {
  readonly 'virtual-size': number;
  readonly 'cluster-size'?: number;
  readonly 'backing-filename'?: string;
  readonly 'backing-filename-format'?: string;
  readonly snapshots?: readonly { readonly name: string }[];
}

export async function infoOf(file: string, format = 'qcow2'): Promise<ImageInfo> {
  return JSON.parse(await beside(file, 'info', '--output=json', '-f', format, file)) as ImageInfo;
}

export async function virtualSize(file: string, format: string): Promise<number> {
  return (await infoOf(file, format))['virtual-size'];
}
