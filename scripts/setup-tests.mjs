// Before the tests: QEMU's programs judge what we write, so they have to be there. As root on a
// machine with apt-get they are installed; else the line to type is printed and the tests fail.

import { spawnSync } from 'node:child_process';

const PROGRAMS = ['qemu-img', 'qemu-io', 'qemu-nbd', 'qemu-storage-daemon'];
const PACKAGES = ['qemu-utils', 'qemu-system-common'];

const missing = PROGRAMS.filter((name) => spawnSync(name, ['--version']).error !== undefined);
if (missing.length > 0) install();

function install() {
  const command = `apt-get install -y ${PACKAGES.join(' ')}`;
  const hasApt = spawnSync('apt-get', ['--version']).error === undefined;
  if (process.getuid?.() !== 0 || !hasApt) {
    console.error(`The tests need ${missing.join(', ')}. Install them with:\n  sudo ${command}`);
    process.exit(1);
  }
  console.log(`Installing ${PACKAGES.join(' and ')} for the tests ...`);
  apt('update');
  apt('install', '-y', '--no-install-recommends', ...PACKAGES);
}

function apt(...args) {
  const { status, stdout, stderr } = spawnSync('apt-get', args, {
    encoding: 'utf8',
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  });
  if (status === 0) return;
  console.error(`apt-get ${args.join(' ')} failed:\n${stdout}${stderr}`);
  process.exit(1);
}
