// Too little room in a device has nothing to do with the room in the directory /dev.

import { expect, test } from 'vitest';
import { Images } from '../support/images.ts';
import { limited } from '../support/limited.ts';
import { loopDevice, whyNoLoops } from '../support/mounts.ts';
import { qemuImg } from '../support/qemu.ts';

const reason = whyNoLoops();
const onDevices = reason === undefined ? test : test.skip;

onDevices(`the refusal names the device${reason === undefined ? '' : ` (${reason})`}`, async () => {
  const images = new Images();
  const base = loopDevice(1024 * 1024);
  await qemuImg('create', '-q', '-f', 'qcow2', base, '8M');
  await images.create('top.qcow2', '8M', { backing: base });
  await images.io('top.qcow2', 'write -P 2 512k 4M');
  const { code, stderr } = await limited(['commit', 'top.qcow2'], images.dir);
  expect(code).toBe(1);
  expect(stderr).toContain(`'${base}'`);
  expect(stderr).not.toContain("in '/dev/'");
});
