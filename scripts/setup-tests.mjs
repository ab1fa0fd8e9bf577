// Before the tests: QEMU's programs judge what we write, those of libnbd and nbdkit our NBD, so they
// have to be there, and what makes a file system that shares extents and certificates. As root on a
// machine with apt-get they are installed; else the line to type is printed and the tests fail.

import { spawnSync } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

const PROGRAMS = [
  'qemu-img',
  'qemu-io',
  'qemu-nbd',
  'qemu-storage-daemon',
  'qemu-system-x86_64',
].concat(['nbdinfo', 'nbdcopy', 'nbdsh', 'nbdkit', 'openssl'], ['mkfs.xfs', 'strace', 'time']);
const PACKAGES = ['qemu-utils', 'qemu-system-common', 'qemu-system-x86'].concat(
  ['libnbd-bin', 'python3-libnbd', 'nbdkit', 'openssl'],
  ['xfsprogs', 'strace', 'time'],
);

const missing = PROGRAMS.filter((name) => !onPath(name));
if (missing.length > 0) install();

function install() {
  if (process.getuid?.() !== 0 || !onPath('apt-get')) {
    const command = `sudo apt-get install -y ${PACKAGES.join(' ')}`;
    fail(`The tests need ${missing.join(', ')}. Install them with:\n  ${command}`);
  }
  console.log(`Installing ${PACKAGES.join(' and ')} for the tests ...`);
  // Fresh containers have no lists of packages.
  apt('update');
  apt('install', '-y', '--no-install-recommends', ...PACKAGES);
  const still = PROGRAMS.filter((name) => !onPath(name));
  if (still.length > 0) fail(`Installed ${PACKAGES.join(', ')}, but found no ${still.join(', ')}`);
}

function apt(...args) {
  // Another apt-get at work (a fresh machine updating itself) is waited for.
  const all = ['-o', 'DPkg::Lock::Timeout=120', ...args];
  const { status, error, stdout, stderr } = spawnSync('apt-get', all, {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    maxBuffer: 64 * 1024 * 1024,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (status === 0) return;
  fail(`apt-get ${args.join(' ')} failed: ${error ?? `exit ${status}`}\n${stdout}${stderr}`);
}

/** Looked up here: starting the programs to see whether they are there takes longer. */
function onPath(name) {
  return (process.env.PATH ?? '').split(delimiter).some((dir) => {
    try {
      accessSync(join(dir, name), constants.X_OK);
      return statSync(join(dir, name)).isFile();
    } catch {
      return false;
    }
  });
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
