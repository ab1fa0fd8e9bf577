// Command lines with more than one thing wrong, started as qemu-img, beside the real one: options are
// gone through word by word, and the first that is wrong is told. And options that are not known by
// a long name, cut short, or given again.

import { sideBySide } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';

const { testLines, testDifferences } = sideBySide(fillWithChain);

testLines(`
compare --object foo b.qcow2 b.qcow2 -Z
compare --a-format qcow2 b.qcow2 b.qcow2
compare --strict b.qcow2 b.qcow2
compare --quiet b.qcow2 b.qcow2
compare --progress b.qcow2 b.qcow2
compare --cache none b.qcow2 b.qcow2
compare --b-format raw b.qcow2 b.qcow2
compare --force b.qcow2 m.qcow2
compare --f b.qcow2 m.qcow2
compare --im b.qcow2 m.qcow2
compare -Z --object foo b.qcow2 b.qcow2
compare --object foo --help
compare --object secret,id=a,data=b --object foo
compare -T foo -Z
compare -T foo a
compare -T foo b.qcow2 b.qcow2
compare -T foo nope b.qcow2
commit -r abc -Z t.qcow2
commit -Z -r abc t.qcow2
commit -r abc --object foo t.qcow2
commit --object foo -r abc t.qcow2
commit -r abc --help
commit -r abc
commit -r abc a b
commit -r 0x10k -r abc t.qcow2
commit -r 0x10k -r 1M t.qcow2
commit t.qcow2 -r abc -Z
commit -b
commit -r
commit -r 1M -r
check -r foo -Z
check -r foo --object foo
check --object foo -r foo
check -Z -r foo
check -r foo
check --output=x -r foo t.qcow2
check --output=x -Z t.qcow2
check --output=x
check -T x
create -o , -Z x
create -Z -o , x
create -o , --object foo x
create --object foo -o , x
create --object foo -o help
create -o help --object foo
create -f qcow2 --object foo x abc
create -o help -Z
create -f foo -o help -Z x
create -o a -o , x
create -o , -o a x
map -s abc -l abc t.qcow2
map -l abc -s abc t.qcow2
map --start-offset=abc -Z t.qcow2
map -Z -s abc
map -s abc
map --object foo -s abc t.qcow2
map -s abc --object foo t.qcow2
map -s 0x10k t.qcow2
map -s 1M -s 2M t.qcow2
map -s 8E t.qcow2
map -s 7E t.qcow2
map -l 7E t.qcow2
map -s 7E -l 7E t.qcow2
map --output=json -s 7E t.qcow2
map -s 1.5k t.qcow2
map --output=json -s 1.5k -l 100 t.qcow2
map --output=json -l 0 t.qcow2
map -l 0 t.qcow2
map --output=json -s 100M t.qcow2
map --output x -s abc t.qcow2
map --output x
map --output x nope
info --object foo -Z
info -Z --object foo
info --output=x -Z
info --output=x
info --object
info --object foo --help
info -Zq t.qcow2
info -UZ t.qcow2
info -fZ t.qcow2
info -U --backing-chain=x t.qcow2
info --o x t.qcow2
info --ob x t.qcow2
info --b t.qcow2
info --i t.qcow2
info --f t.qcow2
info --fo t.qcow2
info --for t.qcow2
info --form t.qcow2
info --
info -- -f
info - 
info t.qcow2 -- -f raw
info -f qcow2 -f raw t.qcow2
info --output=json --output=human t.qcow2
info -W foo t.qcow2
check --object foo
check -q -q b.qcow2
check -r leaks
check -r all nope
check --force b.qcow2
`);

// Options that count for an image whose format is probed, and objects
testLines(`
commit --image-opts file.filename=t.qcow2,read-only
commit --image-opts file.filename=t.qcow2,read-only=on
commit --image-opts file.filename=t.qcow2,read-only=maybe
commit --image-opts file.driver=file,file.filename=t.qcow2,force-share=on
commit --image-opts file.filename=t.qcow2,noread-only
info --image-opts file.filename=t.qcow2,read-only=maybe
info --image-opts file.filename=nope,read-only=maybe
info --image-opts file.filename=t.qcow2,force-share=on
map --image-opts file.filename=t.qcow2,read-only
map --image-opts file.filename=t.qcow2,noread-only
compare --image-opts file.filename=t.qcow2,read-only file.filename=b.qcow2,read-only
check --image-opts file.filename=t.qcow2,read-only
info --object '' b.qcow2
info --object = b.qcow2
info --object secret b.qcow2
info --object secret,id=a b.qcow2
info --object secret,data=x b.qcow2
info --object secret,id=a,data=x,foo=1 b.qcow2
info --object secret,id=1a,data=x b.qcow2
compare --object secret,id=1a,data=x b.qcow2 b.qcow2
info --object secret,id=a,file=nope b.qcow2
compare --object secret,id=a,file=nope b.qcow2 b.qcow2
create --object secret,id=a,file=nope x 1M
info --object secret,id=a,file=b.qcow2 b.qcow2
info --object qom-type=secret,id=a,data=x b.qcow2
info --object id=a,data=x b.qcow2
info --object secret,,id=a b.qcow2
info --object secret,id=a,data=x --object secret,id=a,data=y b.qcow2
info --object secret,id b.qcow2
info --object secret,id=,data=x b.qcow2
info --object secret,id=a,data= b.qcow2
info --object secret,id=a,data=x,file=b.qcow2 b.qcow2
info --object secret,id=a,id=b,data=x b.qcow2
info --object secret,id=a,data=x,format=base64 b.qcow2
info --object secret,id=a,data=eA==,format=base64 b.qcow2
info --object secret,id=a,data=x,format=foo b.qcow2
`);

testDifferences([
  ['info --object help b.qcow2', 'secrets are the only objects there are'],
  ['map null-co://', 'what a null device returns counts as data'],
]);
