// A guest: a program in the first sector of a disk, which a machine without anything else boots. It
// writes 250 pieces through the BIOS, reads each one back, and leaves with what came of it.

/** Bytes of each piece; the i-th lies behind the first 32 KiB and i others, and is full of the word i. */
export const PIECE = 4096;
export const FIRST_PIECE = 64 * 512;
export const PIECES = 250;

/** What the machine exits with: all was as it was written, or not. */
export const GUEST_CONTENT = 0x10 * 2 + 1;

/*
        cli; ax = ds = es = ss = 0; sp = 0x7c00; sti
        [drive] = dl; bp = 0
next:   fill 2048 words at 0x8000 with bp
        packet: sector 64 + bp * 8, buffer 0x8000;  ah = 0x43 (write); call disk
        packet: the same sector, buffer 0xa000;     ah = 0x42 (read);  call disk
        compare 2048 words at 0x8000 and 0xa000;    jne fail
        bp++; cmp bp, 250; jb next
        out 0xf4, 0x10
fail:   out 0xf4, 0x20
        jmp $
disk:   al = 0; dl = [drive]; si = packet; int 0x13; jc fail; ret
drive:  db 0
packet: db 16, 0; dw 8, buffer, 0; dq sector
*/
const PROGRAM = `
fa31c08ed88ec08ed0bc007cfb88166b7c31ed89e8b90008bf0080fcf3ab89e8
c1e00383c040a3747cc706707c0080b443e82900c706707c00a0b442e81e00b9
0008be0080bf00a0f3a7750b4581fdfa0072c0b010e6f4b020e6f4ebfe30c08a
166b7cbe6c7ccd1372edc30010000800008000000000000000000000
`;

/** The first sector of its disk. */
export function bootSector(): Buffer {
  const sector = Buffer.alloc(512);
  Buffer.from(PROGRAM.replace(/\s/g, ''), 'hex').copy(sector);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** A machine with this disk, and no more. */
export function machine(uri: string): readonly string[] {
  const disk = `file=${uri},format=raw,if=none,id=d0`;
  return ['qemu-system-x86_64', '-M', 'pc', '-accel', 'tcg', '-m', '32', '-nodefaults'].concat([
    ...['-display', 'none', '-device', 'isa-debug-exit,iobase=0xf4,iosize=4'],
    ...['-drive', disk, '-device', 'virtio-blk-pci,drive=d0'],
  ]);
}
