// A real guest, Linux with an ext4, with its disk on our NBD socket: it writes files while layers below are
// merged; then its files, its file system and the images are judged by others.
//   npm run guest [-- --megabytes 256]
// Takes QEMU, e2fsprogs, and a kernel and busybox of Debian, which it has apt-get download.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { megabytes: { type: 'string' } } });
const SIZE = `${values.megabytes ?? '256'}M`;
const CLI = join(import.meta.dirname, '../dist/cli.cjs');
const MODULES = ['virtio', 'virtio_ring', 'virtio_pci_legacy_dev', 'virtio_pci_modern_dev'].concat([
  'virtio_pci',
  'virtio_blk',
]);
const dir = mkdtempSync(join(tmpdir(), 'qimg-ts-guest-'));
const children: ChildProcess[] = [];

function run(program: string, ...args: readonly string[]): string {
  const options = { cwd: dir, encoding: 'utf8', maxBuffer: 2 ** 26, stdio: 'pipe' } as const;
  return execFileSync(program, args, options);
}

/** The file of that name, wherever it is below. */
function find(below: string, name: RegExp): string {
  for (const entry of readdirSync(below, { recursive: true, encoding: 'utf8' })) {
    if (name.test(entry)) return join(below, entry);
  }
  throw new Error(`no ${name} below ${below}`);
}

function download(): { readonly kernel: string; readonly system: string } {
  const depends = run('apt-cache', 'depends', 'linux-image-cloud-amd64');
  const [, image] = /Depends: (linux-image-\S+)/.exec(depends) ?? [];
  if (image === undefined) throw new Error('apt-get knows no linux-image-cloud-amd64');
  // What it may not enter as its own user it enters as root.
  run('apt-get', 'download', '-q', '-o', 'APT::Sandbox::User=root', 'busybox-static', image);
  const system = join(dir, 'system');
  for (const each of readdirSync(dir))
    if (each.endsWith('.deb')) run('dpkg-deb', '-x', each, system);
  return { kernel: find(join(system, 'boot'), /^vmlinuz/), system };
}

/** busybox, mke2fs with its libraries, the drivers of the disk, and what to do. */
function makeInitrd(system: string): string {
  const root = join(dir, 'root');
  for (const each of ['bin', 'sbin', 'dev', 'proc', 'tmp', 'mnt', 'modules']) {
    mkdirSync(join(root, each), { recursive: true });
  }
  const busybox = find(system, /bin\/busybox$/);
  copyFileSync(busybox, join(root, 'bin/busybox'));
  for (const name of run(busybox, '--list').split('\n')) {
    if (name !== '' && name !== 'busybox') symlinkSync('busybox', join(root, 'bin', name));
  }
  const mke2fs = '/sbin/mke2fs';
  copyFileSync(mke2fs, join(root, 'sbin/mke2fs'));
  for (const [library] of run('ldd', mke2fs).matchAll(/\/\S+/g)) {
    if (!existsSync(library)) continue;
    mkdirSync(join(root, dirname(library)), { recursive: true });
    copyFileSync(library, join(root, library));
  }
  for (const each of MODULES) {
    copyFileSync(find(system, new RegExp(`/${each}\\.ko$`)), join(root, 'modules', `${each}.ko`));
  }
  copyFileSync(join(import.meta.dirname, 'guest-init.sh'), join(root, 'init'));
  chmodSync(join(root, 'init'), 0o755);
  const pack = `cd '${root}' && find . | '${busybox}' cpio -o -H newc 2>/dev/null | gzip -1`;
  run('sh', '-c', `(${pack}) > '${dir}/initrd'`);
  return join(dir, 'initrd');
}

const nameOf = (i: number) => (i === 0 ? 'base.qcow2' : `sn${i}.qcow2`);

class Qmp {
  readonly #socket: Socket;
  readonly #lines: AsyncIterator<string>;
  readonly #events: string[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#lines = createInterface(socket)[Symbol.asyncIterator]();
  }

  static async open(path: string): Promise<Qmp> {
    while (!existsSync(path)) await new Promise((resolve) => setTimeout(resolve, 50));
    const qmp = new Qmp(createConnection(path));
    await qmp.#lines.next();
    await qmp.run('qmp_capabilities');
    return qmp;
  }

  async #next(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the daemon is gone');
    return JSON.parse(value);
  }

  async run(execute: string, args: object = {}): Promise<unknown> {
    this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`);
    for (;;) {
      const message = await this.#next();
      if (message['error'] !== undefined) throw new Error(JSON.stringify(message));
      if (message['return'] !== undefined) return message['return'];
      this.#events.push(JSON.stringify(message));
    }
  }

  async event(name: string): Promise<string> {
    for (;;) {
      const found = this.#events.find((each) => each.includes(`"${name}"`));
      if (found !== undefined) return found;
      this.#events.push(JSON.stringify(await this.#next()));
    }
  }
}

interface Served {
  readonly qmp: Qmp;
  stop(): Promise<void>;
}

async function serve(image: string): Promise<Served> {
  const options = ['--socket', 'disk.sock', '--qmp', 'qmp.sock', '--id', 'drive-virtio-disk0'];
  const daemon = spawn(process.execPath, [CLI, 'serve', image, '-f', 'qcow2', ...options], {
    cwd: dir,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  children.push(daemon);
  const ended = new Promise<number | null>((resolve) => daemon.once('close', resolve));
  const qmp = await Qmp.open(join(dir, 'qmp.sock'));
  return {
    qmp,
    async stop() {
      daemon.kill('SIGTERM');
      const code = await ended;
      if (code !== 0) throw new Error(`the daemon ended with ${code}`);
    },
  };
}

interface Boot {
  readonly kernel: string;
  readonly initrd: string;
  /** Its files, by name. */
  readonly sums: Map<string, string>;
}

/** Boots with the served disk; `meanwhile` has the guest's words, and a way to tell it to end. */
async function boot(
  { kernel, initrd, sums }: Boot,
  stage: string,
  meanwhile: (said: string, end: () => void) => void = () => undefined,
): Promise<void> {
  const disk = 'file=nbd+unix:///?socket=disk.sock,format=raw,if=virtio,discard=unmap';
  const guest = spawn(
    'qemu-system-x86_64',
    ['-m', '256', '-nographic', '-no-reboot', '-nodefaults', '-serial', 'stdio'].concat(
      ['-kernel', kernel, '-initrd', initrd, '-drive', disk],
      ['-append', `console=ttyS0 quiet panic=-1 no_timer_check stage=${stage}`],
    ),
    { cwd: dir, stdio: ['pipe', 'pipe', 'inherit'] },
  );
  children.push(guest);
  const end = () => void guest.stdin?.write('\n');
  let last = '';
  const said: string[] = [];
  const lines: Interface = createInterface(guest.stdout as NodeJS.ReadableStream);
  for await (const line of lines) {
    said.push(line);
    // The first one comes behind what the firmware has drawn.
    const [, word, ...rest] = /(SUM|GONE|GUEST) (\S+) ?(.*)$/.exec(line.trim()) ?? [];
    const [first = '', second = ''] = rest;
    if (word === 'SUM') sums.set(second, first);
    else if (word === 'GONE') sums.delete(first);
    else if (word === 'GUEST') {
      last = `${first} ${second}`.trim();
      meanwhile(last, end);
    }
  }
  if (last !== 'done')
    throw new Error(`stage ${stage}: the guest said:\n${said.slice(-30).join('\n')}`);
}

async function commitWhileItWrites(about: Boot, qmp: Qmp): Promise<number> {
  const commit = async (end: () => void): Promise<number> => {
    const started = performance.now();
    await qmp.run('block-commit', {
      ...{ device: 'drive-virtio-disk0', top: 'sn3.qcow2', base: 'sn1.qcow2' },
      speed: 2_000_000,
    });
    const told = await qmp.event('BLOCK_JOB_COMPLETED');
    if (told.includes('"error"')) throw new Error(told);
    end();
    return (performance.now() - started) / 1000;
  };
  let committing: Promise<number> | undefined;
  await boot(about, 'last', (said, end) => {
    if (said === 'writes') committing = commit(end);
  });
  if (committing === undefined) throw new Error('the guest did not write');
  return await committing;
}

/** The files of the image, read without us, hold what the guest said. */
function judge(sums: ReadonlyMap<string, string>): void {
  for (const name of ['sn1.qcow2', 'sn4.qcow2']) {
    const checked = run('qemu-img', 'check', name);
    if (!checked.startsWith('No errors were found')) throw new Error(checked);
  }
  const info = JSON.parse(run('qemu-img', 'info', '--output=json', 'sn4.qcow2'));
  if (info['backing-filename'] !== 'sn1.qcow2') throw new Error(JSON.stringify(info));
  run('qemu-img', 'convert', '-O', 'raw', 'sn4.qcow2', 'now.raw');
  run('/sbin/e2fsck', '-f', '-n', 'now.raw');
  mkdirSync(join(dir, 'files'));
  run('/sbin/debugfs', '-R', 'rdump / files', 'now.raw');
  for (const [name, sum] of sums) {
    const found = run('sha256sum', join('files', name)).split(' ')[0];
    if (found !== sum) throw new Error(`${name}: ${found} is not ${sum}`);
  }
  const extra = readdirSync(join(dir, 'files')).filter((name) => !sums.has(name));
  const expected = ['lost+found', 'sums'];
  if (extra.sort().join() !== expected.join()) throw new Error(`left over: ${extra}`);
  const listed = readFileSync(join(dir, 'files/sums'), 'utf8').trim().split('\n');
  if (listed.length !== sums.size) throw new Error(`${listed.length} sums, ${sums.size} files`);
}

async function main(): Promise<void> {
  const { kernel, system } = download();
  const about: Boot = { kernel, initrd: makeInitrd(system), sums: new Map() };
  console.log(`kernel ${basename(kernel)}, disk of ${SIZE}`);
  for (let i = 0; i <= 4; i++) {
    const below = i === 0 ? [] : ['-b', nameOf(i - 1), '-F', 'qcow2'];
    const size = i === 0 ? [SIZE] : [];
    run('qemu-img', 'create', '-q', '-f', 'qcow2', ...below, nameOf(i), ...size);
    const { qmp, stop } = await serve(nameOf(i));
    const started = performance.now();
    let note = '';
    if (i < 4) await boot(about, String(i));
    else
      note = `, sn3 into sn1 in ${(await commitWhileItWrites(about, qmp)).toFixed(1)} s meanwhile`;
    await stop();
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`${nameOf(i)}: ${about.sums.size} files, ${seconds} s${note}`);
  }
  judge(about.sums);
  console.log('checksums right, file system clean, images clean');
}

try {
  await main();
} finally {
  for (const child of children) child.kill('SIGKILL');
  rmSync(dir, { recursive: true });
}
