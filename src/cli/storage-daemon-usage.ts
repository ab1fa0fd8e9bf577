// What the storage daemon says of itself under QEMU's name.

import type { ProgramContext } from './program.ts';
import { QEMU_VERSION, VERSION } from './version.ts';

export function versionText({ name }: ProgramContext): string {
  return name === 'qimg-ts'
    ? `${name} version ${VERSION}\n`
    : `${name} version ${QEMU_VERSION} (qimg-ts ${VERSION})\n`;
}

export function usageText(): string {
  return `Usage: qemu-storage-daemon [options]
Disks served while they are merged, by qimg-ts under the name of the QEMU storage daemon

  -h, --help             display this help and exit
  -T, --trace [[enable=]<pattern>][,events=<file>][,file=<file>]
                         taken for compatibility; there is no tracing
  -V, --version          output version information and exit

  --blockdev [driver=]<driver>[,node-name=<N>][,discard=ignore|unmap]
             [,cache.direct=on|off][,cache.no-flush=on|off]
             [,read-only=on|off][,auto-read-only=on|off]
             [,force-share=on|off][,detect-zeroes=on|off|unmap]
             [,driver specific parameters...]
                         open a block node

  --chardev socket,id=<id>,path=<path>[,server=on|off][,wait=on|off]
  --chardev socket,id=<id>,host=<host>,port=<port>[,server=on|off][,wait=on|off]
  --chardev stdio,id=<id>
                         a way in for a monitor

  --daemonize            go to the background, and have the first process exit
                         once startup is complete

  --export [type=]nbd,id=<id>,node-name=<node-name>[,name=<export-name>]
           [,writable=on|off][,bitmaps.0=<name>][,allocation-depth=on|off]
                         serve a block node over NBD (requires --nbd-server)

  --monitor [chardev=]name[,mode=control][,pretty[=on|off]]
                         take commands on a character device

  --nbd-server addr.type=inet,addr.host=<host>,addr.port=<port>
               [,tls-creds=<id>][,max-connections=<n>]
  --nbd-server addr.type=unix,addr.path=<path>
               [,tls-creds=<id>][,max-connections=<n>]
                         serve exports over NBD

  --object <type>[,<property>=<value>...]
                         create an object; the id property must be set

  --pidfile <path>       write process ID to a file after startup
`;
}
