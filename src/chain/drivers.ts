// The names of drivers: those that we have, and those of QEMU that we know by name alone.

import { ImageError } from '../errors.ts';

/** They have a place for a file below them. */
const FORMATS = ['raw', 'qcow2'] as const;
const PROTOCOLS = ['file', 'host_device', 'null-co', 'blkdebug', 'nbd'] as const;

export type Format = (typeof FORMATS)[number];
export type Protocol = (typeof PROTOCOLS)[number];

/** All that we have. */
export const DRIVERS: readonly (Format | Protocol)[] = [...FORMATS, ...PROTOCOLS];

/** Those of QEMU that can be named where a file is opened. */
const FOREIGN =
  'blklogwrites blkreplay blkverify bochs cloop compress copy-before-write copy-on-read dmg ftp ' +
  'ftps gluster host_cdrom http https iscsi luks nfs null-aio nvme nvme-io_uring parallels ' +
  'preallocate qcow qed quorum rbd replication ssh throttle vdi vhdx vmdk vpc vvfat';
/** These it has beyond that. */
const RARE =
  'io_uring snapshot-access virtio-blk-vfio-pci virtio-blk-vhost-user virtio-blk-vhost-vdpa';
const foreign = new Set(FOREIGN.split(' '));
const rare = new Set(RARE.split(' '));

/** One that QEMU has: what a header may store as the format of a backing file. */
export function isDriverOfQemu(name: string): boolean {
  return DRIVERS.some((each) => each === name) || foreign.has(name) || rare.has(name);
}

/** The drivers that we have; throws for others. */
export function checkDriver(name: string): Format | Protocol {
  const known = DRIVERS.find((each) => each === name);
  if (known !== undefined) return known;
  if (foreign.has(name)) {
    throw new ImageError('unsupported', `The format '${name}' is not supported`);
  }
  throw new ImageError('invalid', `Unknown driver '${name}'`);
}

export function isProtocol(driver: string): driver is Protocol {
  return (PROTOCOLS as readonly string[]).includes(driver);
}
