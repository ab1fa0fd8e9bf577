// What we are, and what we take after.

export const VERSION = '0.1.0';
/** The release that is imitated. */
export const QEMU_VERSION = '7.2.0';
