// commit, started as qemu-img, beside the real one.

import { sideBySide } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';

const { testLines, testDifferences } = sideBySide(fillWithChain);

testLines(`
commit t.qcow2
commit -d t.qcow2
commit -q t.qcow2
commit -p t.qcow2
commit -p -q t.qcow2
commit -b b.qcow2 t.qcow2
commit -b ./b.qcow2 t.qcow2
commit -b m.qcow2 t.qcow2
commit -b nosuch t.qcow2
commit -b t.qcow2 t.qcow2
commit -t none t.qcow2
commit -t off t.qcow2
commit -t unsafe t.qcow2
commit -t writethrough t.qcow2
commit -t directsync t.qcow2
commit -r 100M t.qcow2
commit -r 0 t.qcow2
commit -f qcow2 -qp t.qcow2
commit -fqcow2 t.qcow2
commit t.qcow2 -d
commit --image-opts driver=qcow2,file.filename=t.qcow2
commit --image-opts file.filename=t.qcow2
commit --image-opts t.qcow2
commit --object secret,id=s,data=abc t.qcow2
commit u.qcow2
commit -b r.raw u.qcow2
commit m.qcow2
commit
commit a b
commit b.qcow2
commit nope.qcow2
commit .
commit foo:bar
commit -f raw t.qcow2
commit -f nosuch t.qcow2
commit -Z t.qcow2
commit --nosuch t.qcow2
commit -r
commit -t foo t.qcow2
commit -r abc t.qcow2
commit -r -5 t.qcow2
commit --object foo t.qcow2
commit --object secret,id=a t.qcow2
commit --drop t.qcow2
commit --base b.qcow2 t.qcow2
commit --format qcow2 t.qcow2
commit --cache none t.qcow2
commit --rate-limit 1M t.qcow2
commit --progress t.qcow2
commit --quiet t.qcow2
commit --top m.qcow2 t.qcow2
commit --overlay m.qcow2 t.qcow2
commit --relink t.qcow2
commit --delete t.qcow2
commit --force t.qcow2
commit --search . t.qcow2
commit --dry-run t.qcow2
commit --output json t.qcow2
commit --object secret,id=s,data=a t.qcow2
commit --obj secret,id=s,data=a t.qcow2
commit --o secret,id=s,data=a t.qcow2
commit --image t.qcow2
commit --i t.qcow2
commit --image-opts=x t.qcow2
commit --object
commit --object=
commit ''
commit -b '' t.qcow2
commit -f '' t.qcow2
commit -t '' t.qcow2
commit -r '' t.qcow2
commit -r 1e3 t.qcow2
commit -r ' 1M' t.qcow2
commit -r 16E t.qcow2
commit -r 8E t.qcow2
commit -r 7E t.qcow2
commit -r 1.5 t.qcow2
commit file:t.qcow2
commit file:nope
commit ./t.qcow2
commit r.raw
commit small.raw
commit -f raw r.raw
commit d
commit -f qcow2 r.raw
commit -U t.qcow2
commit -d -b b.qcow2 t.qcow2
commit -v t.qcow2
commit -- t.qcow2
commit t.qcow2 -- -q
commit -qd t.qcow2
commit -dq -t none t.qcow2
commit -b file:b.qcow2 t.qcow2
commit -b d/../b.qcow2 t.qcow2
commit g.qcow2
commit -b r.raw -q u.qcow2
`);

testDifferences([['commit -f vmdk t.qcow2', 'formats that we do not have']]);
