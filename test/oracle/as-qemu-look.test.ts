// info, check and what is not a command, started as qemu-img, beside the real one.

import { expect, test } from 'vitest';
import { sideBySide } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';

const { both, testLines, testDifferences } = sideBySide(fillWithChain);

testLines(`
info t.qcow2
info --output=json t.qcow2
info --backing-chain t.qcow2
info --backing-chain --output=json t.qcow2
info r.raw
info --output=json r.raw
info -f raw t.qcow2
info
info a b
info nope
info .
info foo:bar
info -f foo t.qcow2
info -f file b.qcow2
info -f qcow2 r.raw
info --output=foo t.qcow2
info --image-opts driver=qcow2,file.filename=t.qcow2
info file:b.qcow2
info --output=json file:b.qcow2
info ./b.qcow2
info file:./b.qcow2
info file:r.raw
info file:nope
info file:
info ''
info --output=json ''
info d
info --output json b.qcow2
info --output b.qcow2
info --output= b.qcow2
info --out=json b.qcow2
info --back t.qcow2
info --backing-chain --output=json u.qcow2
info --backing-chain g.qcow2
info --backing-chain --output=json g.qcow2
info g.qcow2
info -f '' b.qcow2
info --format qcow2 b.qcow2
info --force-share b.qcow2
info --force b.qcow2
info -q b.qcow2
info -T none b.qcow2
info -U b.qcow2
info -Uf qcow2 b.qcow2
info --object secret,id=a,data=b b.qcow2
info --image-opts driver=qcow2,file.filename=b.qcow2
info --image-opts -f qcow2 b.qcow2
info -f qcow2 file:b.qcow2
info small.raw
info --output=json small.raw
`);

testLines(`
check t.qcow2
check --output=json t.qcow2
check -q t.qcow2
check r.raw
check
check nope
check -f qcow2 r.raw
check --output=x t.qcow2
check -r foo t.qcow2
check g.qcow2
check -q g.qcow2
check --output=json g.qcow2
check -f qcow2 g.qcow2
check -U g.qcow2
check u.qcow2
check file:b.qcow2
check --output=json file:b.qcow2
check ''
check d
check small.raw
check --output=json r.raw
check -q r.raw
check -f raw b.qcow2
check -r
check --quiet b.qcow2
check --format qcow2 b.qcow2
check --force-share b.qcow2
check --source-cache none b.qcow2
check -T none b.qcow2
check -T foo b.qcow2
check -T '' b.qcow2
check -t none b.qcow2
check -U b.qcow2
check -q b.qcow2
check a b
check -f foo b.qcow2
check -f '' b.qcow2
check --output b.qcow2
check --output=human b.qcow2
check --out human b.qcow2
check -F qcow2 b.qcow2
check --output=x nope
check -T x --output=y nope
check -r x --output=y nope
check g.qcow2 --output=json -q
check --object foo b.qcow2
`);

testLines(`
foo
-T
-x
--foo
-- info b.qcow2
- b.qcow2
foo -h
`);

testDifferences([
  ['-T foo info b.qcow2', 'there is no tracing, so no event can be unknown'],
  ['amend', 'commands that we do not have'],
]);

test.each([['--help'], ['-h'], ['create', '--help'], ['info', 'x', '-h']])(
  'qemu-img %s %s: what it says of commands and formats is true of QEMU too',
  async (...args) => {
    const { mine, theirs } = await both(args.filter(Boolean));
    expect([mine.code, mine.stderr]).toEqual([0, '']);
    expect(mine.stdout).toMatch(/^qemu-img version 7\.2\.0 .*\nusage: qemu-img /);
    const commands = (text: string) => text.match(/^ {2}[a-z]+ .*\[.*filename.*$/gm) ?? [];
    expect(commands(mine.stdout).length).toBeGreaterThanOrEqual(4);
    expect(commands(theirs.stdout)).toEqual(expect.arrayContaining(commands(mine.stdout)));
    const formats = (text: string) =>
      /^Supported formats: (.*)$/m.exec(text)?.[1]?.split(' ') ?? [];
    expect(formats(mine.stdout)).toContain('qcow2');
    expect(formats(theirs.stdout)).toEqual(expect.arrayContaining(formats(mine.stdout)));
  },
);
