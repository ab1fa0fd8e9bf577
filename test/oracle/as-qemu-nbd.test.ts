// Names of NBD exports, started as qemu-img, beside the real one.

import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { sideBySide } from '../support/as-qemu.ts';
import { makeCertificates } from '../support/certificates.ts';
import { qemuImg, qemuIo } from '../support/qemu.ts';
import { type ForeignServer, startQemuNbd } from '../support/qemu-nbd.ts';
import { makeTemp } from '../support/temp.ts';

const servers: ForeignServer[] = [];
const { dir, cleanup } = makeTemp();

afterAll(async () => {
  for (const server of servers) await server.stop();
  cleanup();
});

/** Sockets: `s` with the export `exp`, `inner` with an image in an export, `new` to be written to. */
const { testLines } = sideBySide(async (place) => {
  const disk = join(dir, 'disk.qcow2');
  const [inner, blank] = [join(dir, 'inner.raw'), join(dir, 'blank.raw')];
  await qemuImg('create', '-q', '-f', 'raw', blank, '12M');
  await qemuImg('create', '-q', '-f', 'qcow2', disk, '10M');
  await qemuIo(disk, ['write -P 1 0 1M', 'write -P 2 5M 64k', 'write -z 7M 1M']);
  await qemuImg('create', '-q', '-f', 'qcow2', inner, '5M');
  await makeCertificates(join(place, 'keys'));
  const secure = ['--object', `tls-creds-x509,id=s,endpoint=server,dir=${join(place, 'keys')}`];
  const all: readonly (readonly [string, string, readonly string[]])[] = [
    ['s', disk, ['-x', 'exp', '-f', 'qcow2', '-r']],
    ['inner', inner, ['-x', 'my disk', '-f', 'raw', '-r']],
    ['new', blank, ['-x', 'exp', '-f', 'raw']],
    ['tls', disk, ['-x', 'exp', '-f', 'qcow2', '-r', ...secure, '--tls-creds=s']],
  ];
  for (const [name, file, options] of all) {
    const socket = join(dir, `${name}.sock`);
    servers.push(await startQemuNbd(file, options, socket));
    symlinkSync(socket, join(place, name));
  }
  await qemuImg('create', '-q', '-f', 'raw', join(place, 'r.raw'), '10M');
  const overlay = join(place, 'o.qcow2');
  const base = `nbd+unix:///exp?socket=${join(dir, 's.sock')}`;
  await qemuImg('create', '-q', '-f', 'qcow2', '-b', base, '-F', 'raw', overlay);
  await qemuIo(overlay, ['write -P 9 2M 1M']);
});

const CREDS = 'tls-creds-x509,id=c,endpoint=client';

testLines(`
info nbd+unix:///exp?socket=s
info --output=json nbd+unix:///exp?socket=s
info nbd:unix:s:exportname=exp
info nbd:unix:s:exportname=nope
info nbd:unix:s
info nbd+unix:///?socket=s
info nbd+unix://exp?socket=s
info nbd+unix:////exp?socket=s
info nbd+unix:///my%20disk?socket=inner
info -f raw nbd+unix:///my%20disk?socket=inner
info --output=json nbd+unix:///my%20disk?socket=inner
check nbd+unix:///my%20disk?socket=inner
map nbd+unix:///my%20disk?socket=inner
snapshot -l nbd+unix:///my%20disk?socket=inner
info nbd:unix:gone
info nbd:unix:r.raw
info nbd:unix:
info nbd://localhost:1/
info nbd:localhost:1
info nbd://127.0.0.1:1/exp
info nbd+tcp://127.0.0.1:1/exp
info nbd:127.0.0.1:1:exportname=exp
info nbd:[::1]:1
info nbd:[::1
info nbd+unix:///
info nbd:
info nbd:foo
info nbd:foo:bar
info nbd:host:1:foo
info nbd:::1
info nbd:localhost:10809x
info nbd://localhost:99999/
info nbds://localhost/
info nbd+foo://localhost/
info nbd+unix://host/?socket=s
info nbd+unix:///?socket=s&x=1
info nbd+unix:///?path=s
info nbd://localhost/?x=1
info nbd://
info nbd:///exp
info nbd:unix:s:exportname=
info --image-opts driver=nbd,server.type=unix,server.path=s,export=exp
info --output=json --image-opts driver=nbd,server.type=unix,server.path=s,export=exp
info --image-opts driver=nbd,server.type=unix,server.path=s,export=exp,reconnect-delay=3,open-timeout=1
info --image-opts driver=nbd,server.type=unix,server.path=s,export=exp,reconnect-delay=x
info --image-opts driver=raw,file.driver=nbd,file.server.type=unix,file.server.path=s,file.export=exp
info --image-opts driver=raw,offset=1M,file.driver=nbd,file.server.type=unix,file.server.path=s,file.export=exp
info --image-opts driver=qcow2,file.driver=nbd,file.path=inner,file.export=my disk
info --image-opts driver=nbd,path=s,export=exp
info --image-opts driver=nbd,path=s,host=a,export=exp
info --image-opts driver=nbd,path=s,port=1,export=exp
info --image-opts driver=nbd,port=1
info --image-opts driver=nbd,path=s,server.type=unix,server.path=s
info --image-opts driver=nbd,export=exp
info --image-opts driver=nbd,server.type=foo,export=exp
info --image-opts driver=nbd,server.path=s
info --image-opts driver=nbd,server.type=unix
info --image-opts driver=nbd,server.type=unix,server.path=s,server.foo=1
info --image-opts driver=nbd,server.type=inet,server.host=localhost
info --image-opts driver=nbd,server.type=inet,server.host=127.0.0.1,server.port=1
info --image-opts driver=nbd,server.type=unix,server.path=s,export=exp,foo=bar
info --image-opts driver=nbd,server.type=unix,server.path=s,export=exp,tls-creds=foo
info --image-opts file=nbd:unix:s:exportname=exp
info --image-opts driver=nbd,filename=nbd:unix:s:exportname=exp
info json:{"driver":"nbd","server":{"type":"unix","path":"s"},"export":"exp"}
info json:{"driver":"raw","file":{"driver":"nbd","server":{"type":"unix","path":"s"},"export":"exp"}}
info json:{"file":{"driver":"nbd","server.type":"unix","server.path":"s","export":"exp"}}
info json:{"driver":"raw","size":1048576,"file":{"driver":"nbd","server.type":"unix","server.path":"s","export":"exp"}}
info --object ${CREDS},dir=keys --image-opts driver=nbd,server.type=unix,server.path=tls,export=exp,tls-creds=c,tls-hostname=localhost
info --object ${CREDS},dir=keys --image-opts driver=nbd,server.type=unix,server.path=tls,export=exp,tls-creds=c
info --object ${CREDS},dir=keys --image-opts driver=nbd,server.type=unix,server.path=tls,export=exp,tls-creds=c,tls-hostname=foo
info --object ${CREDS},dir=keys --image-opts driver=nbd,server.type=unix,server.path=s,export=exp,tls-creds=c,tls-hostname=localhost
info --object secret,id=c,data=a --image-opts driver=nbd,server.type=unix,server.path=tls,export=exp,tls-creds=c
info --object ${CREDS},dir=nope nbd+unix:///exp?socket=s
info --object ${CREDS} nbd+unix:///exp?socket=s
info --object tls-creds-x509,id=c,endpoint=foo,dir=keys nbd+unix:///exp?socket=s
info nbd+unix:///exp?socket=tls
map nbd+unix:///exp?socket=s
map --output=json nbd+unix:///exp?socket=s
map --output=json o.qcow2
map o.qcow2
info o.qcow2
info --backing-chain o.qcow2
info --backing-chain --output=json o.qcow2
check o.qcow2
check nbd+unix:///exp?socket=s
compare -f raw nbd+unix:///exp?socket=s r.raw
compare -f raw -F qcow2 nbd+unix:///exp?socket=s o.qcow2
compare -f raw -F raw nbd+unix:///exp?socket=s nbd+unix:///exp?socket=s
snapshot -l nbd+unix:///exp?socket=s
snapshot -c a nbd+unix:///exp?socket=s
bitmap --add nbd+unix:///exp?socket=s b
resize -f raw nbd+unix:///exp?socket=s 20M
commit o.qcow2
commit nbd+unix:///exp?socket=s
commit nbd:x
rebase -u -b nbd+unix:///exp?socket=s -F raw o.qcow2
rebase -b r.raw -F raw o.qcow2
create -f qcow2 -b nbd+unix:///exp?socket=s -F raw n.qcow2
create -f qcow2 -b nbd+unix:///nope?socket=s -F raw n.qcow2
create -f raw nbd+unix:///exp?socket=s 10M
create -f qcow2 nbd+unix:///exp?socket=s 10M
create -f qcow2 nbd:localhost:1 10M
create -f qcow2 nbd+unix:///nope?socket=s 10M
create -f raw nbd:unix:new:exportname=exp 10M
create -f raw nbd:unix:new:exportname=exp 10G
create -f raw -o preallocation=full nbd:unix:new:exportname=exp 10M
create -f qcow2 -o help nbd:unix:new
`);
