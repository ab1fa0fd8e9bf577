// create, started as qemu-img, beside the real one: sizes, options, backing files, names.

import { sideBySide } from '../support/as-qemu.ts';
import { fillWithChain } from '../support/as-qemu-chain.ts';

const { testLines, testDifferences } = sideBySide(fillWithChain);

// Sizes
testLines(`
create -f qcow2 x.qcow2 10M
create -f qcow2 x.qcow2 1000
create -f qcow2 x.qcow2 1.5G
create -f qcow2 x.qcow2 0
create -f qcow2 -o size=5M x.qcow2
create -q -f qcow2 x.qcow2 1M
create -f raw x.raw 1000
create x.raw 1M
create -f qcow2 x.qcow2
create -f qcow2 x.qcow2 abc
create -f qcow2 x.qcow2 -5
create -f qcow2 x.qcow2 8E
create -f qcow2 x 1M 2M
create -f qcow2 -o size=abc x.qcow2
create -f qcow2 x.qcow2 ' 10M'
create -f qcow2 x.qcow2 '10M '
create -f qcow2 x.qcow2 1e6
create -f qcow2 x.qcow2 0x100000
create -f qcow2 x.qcow2 0x10M
create -f qcow2 x.qcow2 0x1.8
create -f qcow2 x.qcow2 1.5
create -f qcow2 x.qcow2 1.5k
create -f qcow2 x.qcow2 0.3k
create -f qcow2 x.qcow2 .5M
create -f qcow2 x.qcow2 1.M
create -f qcow2 x.qcow2 1024B
create -f qcow2 x.qcow2 1.0b
create -f qcow2 x.qcow2 1.5b
create -f qcow2 x.qcow2 1k1
create -f qcow2 x.qcow2 +5M
create -f qcow2 x.qcow2 -- -5M
create -f qcow2 x.qcow2 ''
create -f qcow2 x.qcow2 ' '
create -f qcow2 x.qcow2 9223372036854775807
create -f qcow2 x.qcow2 9223372036854775806
create -f qcow2 x.qcow2 9223372036854775808
create -f qcow2 x.qcow2 18446744073709551615
create -f qcow2 x.qcow2 9223372036854774784
create -f qcow2 x.qcow2 7E
create -f qcow2 x.qcow2 16E
create -f qcow2 x.qcow2 1Z
create -f qcow2 x.qcow2 inf
create -f qcow2 x.qcow2 0x
create -f qcow2 x.qcow2 010
create -f qcow2 x.qcow2 00010M
create -f qcow2 -o size=1000 x.qcow2
create -f qcow2 -o size=-1 x.qcow2
create -f qcow2 -o size=8E x.qcow2
create -f qcow2 -o size=7E x.qcow2
create -f qcow2 -o size=16E x.qcow2
create -f qcow2 -o size=9223372036854775807 x.qcow2
create -f qcow2 -o size=9223372036854775808 x.qcow2
create -f qcow2 -o size= x.qcow2
create -f qcow2 -o size=0x10000 x.qcow2
create -f qcow2 -o size=1e6 x.qcow2
create -f qcow2 -o size=1.5 x.qcow2
create -f qcow2 -o size=5M x.qcow2 6M
create -f qcow2 -o size=abc x.qcow2 6M
create -f qcow2 -o size=5M,size=7M x.qcow2
create -f raw x.raw 513
create -f raw -o size=513 x.raw
create -f raw x.raw 0
create x.raw
create -f qcow2 -o size=1M,help x.qcow2
create -f raw -o size=1M,preallocation=off,nocow=off,extent_size_hint=1M x.raw
create x abc
create x 1M 2M
create x 1M abc
create x abc 2M
`);

// Options of the format
testLines(`
create -f qcow2 -o cluster_size=512 x.qcow2 10M
create -f qcow2 -o cluster_size=2M x.qcow2 1G
create -f qcow2 -o compat=0.10 x.qcow2 1G
create -f qcow2 -o compat=v3 x.qcow2 1G
create -f qcow2 -o refcount_bits=1 x.qcow2 1G
create -f qcow2 -o refcount_bits=64,cluster_size=1k x.qcow2 1T
create -f qcow2 -o lazy_refcounts=on,compression_type=zstd x.qcow2 1G
create -f qcow2 -o backing_file=b.qcow2,backing_fmt=qcow2 x.qcow2
create -f qcow2 -o cluster_size=1000 x.qcow2 1M
create -f qcow2 -o cluster_size=4M x.qcow2 1M
create -f qcow2 -o cluster_size=512 x.qcow2 1T
create -f qcow2 -o refcount_bits=3 x.qcow2 1M
create -f qcow2 -o refcount_bits=8,compat=0.10 x.qcow2 1M
create -f qcow2 -o lazy_refcounts=on,compat=0.10 x.qcow2 1M
create -f qcow2 -o lazy_refcounts=maybe x.qcow2 1M
create -f qcow2 -o compression_type=zstd,compat=0.10 x.qcow2 1M
create -f qcow2 -o compression_type=foo x.qcow2 1M
create -f qcow2 -o preallocation=foo x.qcow2 1M
create -f qcow2 -o compat=2.0 x.qcow2 1M
create -f qcow2 -o foo=bar x.qcow2 1M
create -f raw -o cluster_size=512 x.raw 1M
create -f qcow2 -o size x.qcow2
create -f raw -o preallocation=foo x.raw 1M
create -f raw -o preallocation=falloc x.raw 1M
create -f raw -o preallocation=full x.raw 1M
create -f raw -o nocow=on x.raw 1M
create -f raw -o nocow=off x.raw 1M
create -f raw -o nocow=foo x.raw 1M
create -f raw -o extent_size_hint=1M x.raw 1M
create -f raw -o extent_size_hint=0 x.raw 1M
create -f raw -o extent_size_hint=123 x.raw 1M
create -f raw -o extent_size_hint=abc x.raw 1M
create -f raw -o extent_size_hint=5G x.raw 1M
create -f raw -o help
create -f raw -o help x.raw
create -f raw -o help x.raw 1M
create -f raw -o ? x.raw
create -f qcow2 -o help
create -f qcow2 -o help x.qcow2
create -f qcow2 -o ?
create -f qcow2 -o ? x.qcow2 1M
create -f qcow2 -o help=on x.qcow2 1M
create -f qcow2 -o help,, x.qcow2 1M
create -o help
create -o help x
create -f foo -o help
create -f foo -o help x
create -f qcow2 -o help foo:bar
create -f qcow2 -o preallocation=off x.qcow2 3M
create -f qcow2 -o preallocation=metadata x.qcow2 3M
create -f qcow2 -o preallocation=falloc x.qcow2 3M
create -f qcow2 -o preallocation=full x.qcow2 3M
create -f qcow2 -o preallocation=metadata x.qcow2 3000000
create -f qcow2 -o preallocation=metadata,cluster_size=512 x.qcow2 3000000
create -f qcow2 -o preallocation=metadata,cluster_size=2M x.qcow2 100M
create -f qcow2 -o preallocation=metadata,lazy_refcounts=on x.qcow2 3M
create -f qcow2 -o preallocation=metadata,compat=0.10 x.qcow2 3M
create -f qcow2 -o preallocation=falloc,cluster_size=512 x.qcow2 3000000
create -f qcow2 -o preallocation=full,cluster_size=4k x.qcow2 3000000
create -f qcow2 -o preallocation=metadata x.qcow2 0
create -f qcow2 -o preallocation= x.qcow2 1M
create -f qcow2 -o preallocation x.qcow2 1M
create -f qcow2 -o preallocation=OFF x.qcow2 1M
create -f qcow2 -o nocow=on x.qcow2 1M
create -f qcow2 -o nocow x.qcow2 1M
create -f qcow2 -o nonocow x.qcow2 1M
create -f qcow2 -o nolazy_refcounts x.qcow2 1M
create -f qcow2 -o lazy_refcounts x.qcow2 1M
create -f qcow2 -o lazy_refcounts= x.qcow2 1M
create -f qcow2 -o lazy_refcounts=yes x.qcow2 1M
create -f qcow2 -o extent_size_hint=1M x.qcow2 1M
create -f qcow2 -o extent_size_hint=1M,nocow=on,preallocation=falloc x.qcow2 1M
create -f qcow2 -o cluster_size x.qcow2 1M
create -f qcow2 -o cluster_size= x.qcow2 1M
create -f qcow2 -o cluster_size=0 x.qcow2 1M
create -f qcow2 -o cluster_size=-1 x.qcow2 1M
create -f qcow2 -o cluster_size=256 x.qcow2 1M
create -f qcow2 -o cluster_size=1.5k x.qcow2 1M
create -f qcow2 -o cluster_size=0x1000 x.qcow2 1M
create -f qcow2 -o cluster_size=16E x.qcow2 1M
create -f qcow2 -o cluster_size=4G x.qcow2 1M
create -f qcow2 -o cluster_size=8E x.qcow2 1M
create -f qcow2 -o cluster_size=1k,cluster_size=2k x.qcow2 1M
create -f qcow2 -o refcount_bits x.qcow2 1M
create -f qcow2 -o refcount_bits= x.qcow2 1M
create -f qcow2 -o refcount_bits=0 x.qcow2 1M
create -f qcow2 -o refcount_bits=128 x.qcow2 1M
create -f qcow2 -o refcount_bits=-1 x.qcow2 1M
create -f qcow2 -o refcount_bits=0x10 x.qcow2 1M
create -f qcow2 -o refcount_bits=16k x.qcow2 1M
create -f qcow2 -o refcount_bits=010 x.qcow2 1M
create -f qcow2 -o refcount_bits=1.5 x.qcow2 1M
create -f qcow2 -o 'refcount_bits= 16' x.qcow2 1M
create -f qcow2 -o refcount_bits=99999999999999999999 x.qcow2 1M
create -f qcow2 -o compat=0.10,refcount_bits=16 x.qcow2 1M
create -f qcow2 -o compat=v2,refcount_bits=8 x.qcow2 1M
create -f qcow2 -o compat=v2,refcount_bits=3 x.qcow2 1M
create -f qcow2 -o compat=v2,refcount_bits=8,compression_type=zstd x.qcow2 1M
create -f qcow2 -o compat=v2,lazy_refcounts=on,compression_type=zstd x.qcow2 1M
create -f qcow2 -o compat=v2,lazy_refcounts=on,refcount_bits=8 x.qcow2 1M
create -f qcow2 -o compat=v2,cluster_size=3 x.qcow2 1M
create -f qcow2 -o compat=1.0 x.qcow2 1M
create -f qcow2 -o compat=2 x.qcow2 1M
create -f qcow2 -o compat=v3 x.qcow2 1M
create -f qcow2 -o compat= x.qcow2 1M
create -f qcow2 -o compat x.qcow2 1M
create -f qcow2 -o version=v3 x.qcow2 1M
create -f qcow2 -o compat=1.1,compat=0.10 x.qcow2 1M
create -f qcow2 -o compression_type= x.qcow2 1M
create -f qcow2 -o compression_type=zlib,compat=0.10 x.qcow2 1M
create -f qcow2 -o compression_type=deflate x.qcow2 1M
create -f qcow2 -o = x.qcow2 1M
create -f qcow2 -o '' x.qcow2 1M
create -f qcow2 -o , x.qcow2 1M
create -f qcow2 -o cluster_size=1k, x.qcow2 1M
create -f qcow2 -o ,cluster_size=1k x.qcow2 1M
create -f qcow2 -o cluster_size=1k,,compat=v3 x.qcow2 1M
create -f qcow2 -o cluster_size=1k,,,compat=v3 x.qcow2 1M
create -f qcow2 -o foo x.qcow2 1M
create -f qcow2 -o id=foo x.qcow2 1M
create -f qcow2 -o id=1foo x.qcow2 1M
create -f qcow2 -o =foo x.qcow2 1M
create -f qcow2 -o cluster_size=1k,foo=bar x.qcow2 1M
create -f qcow2 -o foo=bar,cluster_size=xx x.qcow2 1M
create -f qcow2 -o cluster_size=xx,foo=bar x.qcow2 1M
create -f qcow2 -o foo=bar -o help x.qcow2 1M
create -f qcow2 -o cluster_size=xx,help x.qcow2 1M
create -f qcow2 -o extended_l2=off x.qcow2 1M
create -f qcow2 -o extended_l2=on x.qcow2 1M
create -f qcow2 -o extended_l2=yes,cluster_size=128k,lazy_refcounts=on x.qcow2 5M
create -f qcow2 -o extended_l2=on,cluster_size=16k -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -o extended_l2=on,preallocation=metadata -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -o extended_l2=off,preallocation=metadata -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -o extended_l2=on,cluster_size=8k x.qcow2 1M
create -f qcow2 -o extended_l2=on,cluster_size=3k,compat=v2 x.qcow2 1M
create -f qcow2 -o extended_l2=on,compat=0.10 x.qcow2 1M
create -f qcow2 -o extended_l2=on,compat=0.10,lazy_refcounts=on x.qcow2 1M
create -f qcow2 -o extended_l2=on,cluster_size=8k,preallocation=full,backing_fmt=raw x.qcow2 1M
create -f qcow2 -o extended_l2=on,refcount_bits=3 x.qcow2 1M
create -f qcow2 -o extended_l2=on,cluster_size=16k x.qcow2 64T
create -f qcow2 -o extended_l2=on,cluster_size=16k x.qcow2 65T
create -f qcow2 -o extended_l2=maybe x.qcow2 1M
create -f qcow2 -o encryption=off x.qcow2 1M
create -f qcow2 -o data_file_raw=off x.qcow2 1M
create -f qcow2 -o data_file_raw=on x.qcow2 1M
create -f qcow2 -o data_file=x,compat=0.10 x.qcow2 1M
create -f qcow2 -o encrypt.foo=foo x.qcow2 1M
create -f qcow2 -o encrypt.iter-time=foo x.qcow2 1M
create -f qcow2 -o backing_file= x.qcow2 1M
create -f qcow2 -o backing_file x.qcow2 1M
create -f qcow2 -o backing_fmt=qcow2 x.qcow2 1M
create -f qcow2 -o 'backing_file=a,,b.qcow2,backing_fmt=qcow2' -u x.qcow2 1M
create -q -f qcow2 -o help x.qcow2
create -f raw -o backing_file=b.qcow2 x 1M
create -f raw -o encryption=on x 1M
`);

// Backing files, names of files, formats, options of the command
testLines(`
create -f qcow2 -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b b.qcow2 -F qcow2 x.qcow2 1G
create -f qcow2 -b r.raw -F raw -o cluster_size=1k x.qcow2
create -f qcow2 -b r.raw -F raw -o compat=0.10 x.qcow2 5M
create -u -f qcow2 -b nope.qcow2 -F qcow2 x.qcow2 1M
create
create -f
create -Z
create -f foo x.qcow2 1M
create -f qcow2 -F raw x.qcow2 1M
create -f qcow2 -b nope.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b b.qcow2 -F foo x.qcow2
create -f qcow2 -b b.qcow2 -F file x.qcow2
create -u -f qcow2 -b nope.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b x.qcow2 -F qcow2 x.qcow2 1M
create -f raw -b b.qcow2 -F qcow2 x.raw 1M
create -f qcow2 nodir/x.qcow2 1M
create -f qcow2 ./ 1M
create -f qcow2 -o 'size= 10M' x.qcow2
create -f qcow2 -o size=5M -o size=7M x.qcow2
create -f raw -o size=1M -o preallocation=off x.raw
create -f qcow2 -o size=1M,help
create -f qcow2 -o help,size=1M
create -f qcow2 -o size=1M -o help x.qcow2
create -f qcow2 -o preallocation=metadata -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -o preallocation=full -b b.qcow2 -F qcow2 x.qcow2 5M
create -f qcow2 -o preallocation=off -b b.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b b.qcow2 x.qcow2
create -f qcow2 -b r.raw x.qcow2
create -f qcow2 -b small.raw x.qcow2
create -f qcow2 -b small.raw -F raw x.qcow2
create -f qcow2 -b b.qcow2 x.qcow2 1M
create -f qcow2 -u -b b.qcow2 x.qcow2 1M
create -f qcow2 -u -b nope.qcow2 x.qcow2 1M
create -f qcow2 -u -b nope.qcow2 x.qcow2
create -f qcow2 -b nope.qcow2 x.qcow2
create -f qcow2 -b nope.qcow2 x.qcow2 1M
create -f qcow2 -b nope.qcow2 -F raw x.qcow2 1M
create -f qcow2 -b nope.qcow2 -F foo x.qcow2 1M
create -f qcow2 -u -b nope.qcow2 -F foo x.qcow2 1M
create -f qcow2 -b '' x.qcow2 1M
create -f qcow2 -b '' x.qcow2
create -f qcow2 -b '' -F qcow2 x.qcow2 1M
create -f qcow2 -b b.qcow2 -F '' x.qcow2 1M
create -f qcow2 -F qcow2 x.qcow2 1M
create -f qcow2 -u -F qcow2 x.qcow2 1M
create -f qcow2 -b b.qcow2 -F qcow2 -o backing_file=m.qcow2 x.qcow2
create -f qcow2 -b b.qcow2 -F qcow2 -o backing_fmt=raw x.qcow2
create -f qcow2 -b b.qcow2 -o backing_fmt=qcow2 x.qcow2
create -f qcow2 -b b.qcow2 -F qcow2 b.qcow2
create -f qcow2 -b ./b.qcow2 -F qcow2 b.qcow2
create -f qcow2 -b b.qcow2 -F qcow2 -u b.qcow2
create -f qcow2 -b b.qcow2 -F qcow2 -u b.qcow2 1M
create -f qcow2 -b b.qcow2 -F qcow2 d/x.qcow2
create -f qcow2 -b ../b.qcow2 -F qcow2 d/x.qcow2
create -f qcow2 -b ../b.qcow2 d/x.qcow2
create -f qcow2 -b d -F qcow2 x.qcow2
create -f qcow2 -b d -F raw x.qcow2
create -f qcow2 -b d x.qcow2
create -f qcow2 -b m.qcow2 -F qcow2 x.qcow2 1M
create -f qcow2 -b m.qcow2 -F raw x.qcow2
create -f qcow2 -b r.raw -F qcow2 x.qcow2
create -f qcow2 -b g.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b g.qcow2 -F qcow2 x.qcow2 1M
create -f qcow2 -b g.qcow2 x.qcow2 1M
create -f qcow2 -b foo:bar -F qcow2 x.qcow2 1M
create -f qcow2 -b foo:bar x.qcow2 1M
create -f qcow2 -u -b foo:bar -F qcow2 x.qcow2 1M
create -f qcow2 -b file:b.qcow2 -F qcow2 x.qcow2
create -f qcow2 foo:bar 1M
create -f qcow2 file:x.qcow2 1M
create -f raw file:x.raw 1M
create -f qcow2 ./a:b 1M
create -f qcow2 a,b.qcow2 1M
create -f qcow2 'a b.qcow2' 1M
create -f qcow2 'a"b.qcow2' 1M
create -f qcow2 'a=b' 1M
create -f qcow2 '' 1M
create -f raw '' 1M
create -f qcow2 d 1M
create -f raw d 1M
create -f qcow2 d/ 1M
create -f raw d/ 1M
create -f qcow2 . 1M
create -f qcow2 nodir/x 1M
create -f raw nodir/x 1M
create -f qcow2 b.qcow2/x 1M
create -f raw b.qcow2 1M
create -f qcow2 r.raw 1M
create -f raw /dev/nope 1M
create -f qcow2 'json:{"driver":"file","filename":"x"}' 1M
create -f qcow2 -b 'a,b.qcow2' -F qcow2 -u x.qcow2 1M
create -f qcow2 -b 'a b.qcow2' -F qcow2 -u x.qcow2 1M
create -f qcow2 -b 'a"b' -F qcow2 -u x.qcow2 1M
create -f qcow2 -b 'a\\b' -F qcow2 -u x.qcow2 1M
create -f qcow2 -b 'a=b' -F qcow2 -u x.qcow2 1M
create -f qcow2 -b 'a;b$c' -F qcow2 -u x.qcow2 1M
create -f qcow2 -b 'äöü' -F qcow2 -u x.qcow2 1M
create -f qcow2 'äöü' 1M
create -f qcow2 -f raw x.raw 1M
create -f '' x 1M
create --format qcow2 x 1M
create --backing b.qcow2 -f qcow2 x 1M
create --quiet x 1M
create --unsafe x 1M
create --option size=1M x
create --object secret,id=s,data=x -f qcow2 x 1M
create --object foo -f qcow2 x 1M
create --obj secret,id=s,data=x x 1M
create --image-opts x 1M
create -U x 1M
create -f foo x abc
create -b b.qcow2 x 1M
create -F raw x 1M
create -f raw -F raw x 1M
create -f raw -b b.qcow2 -F qcow2 x
create -q
`);

// Backing files that are descriptions, or go by a protocol
testLines(`
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"t.qcow2"}}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"t.qcow2"}}' x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"t.qcow2"}}' -F raw x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"nope"}}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}' -F raw x.qcow2
create -f qcow2 -b 'json:{"driver":"raw","offset":65536,"size":"128k","file":{"driver":"file","filename":"r.raw"}}' -F raw x.qcow2
create -f qcow2 -b 'json:{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}' -F raw x.qcow2 7M
create -f qcow2 -b 'json:{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}' -F raw d/x.qcow2 7M
create -f qcow2 -b 'json:{"driver":"foo"}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"foo"}' x.qcow2
create -f qcow2 -b 'json:{}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{}' x.qcow2
create -f qcow2 -b 'json:' x.qcow2
create -f qcow2 -b 'json:[]' x.qcow2
create -f qcow2 -b 'json:3' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"file.filename":"t.qcow2"}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"file.filename":"t.qcow2"}' x.qcow2
create -f qcow2 -b 'json:{"file.filename":"t.qcow2","foo":1}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"file.filename":"t.qcow2","file.foo":1}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"null-co","size":1048576}' x.qcow2
create -f qcow2 -b 'json:{"driver":"null-co","size":1048576}' -F null-co x.qcow2
create -f qcow2 -b 'json:{"driver":"null-co","size":1048576}' -F raw x.qcow2
create -f qcow2 -b 'json:{' -F qcow2 x.qcow2
create -f qcow2 -b blkdebug::t.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b blkdebug::t.qcow2 -F raw x.qcow2
create -f qcow2 -b blkdebug::t.qcow2 -F blkdebug x.qcow2
create -f qcow2 -b blkdebug::./t.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b blkdebug:t.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b blkdebug::nope -F qcow2 x.qcow2
create -f qcow2 -b blkdebug:nope:t.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b blkdebug::t.qcow2 x.qcow2
create -f qcow2 -b null-co:// -F raw x.qcow2
create -f qcow2 -b null-co:// -F null-co x.qcow2
create -f qcow2 -b null-co:// x.qcow2
create -f qcow2 -b null-co:foo x.qcow2
create -f qcow2 -b file:t.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b file:t.qcow2 x.qcow2
create -f qcow2 -b file:nope -F qcow2 x.qcow2
create -f qcow2 -b file: -F qcow2 x.qcow2
create -f qcow2 -b file:x.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b host_device:t.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b t.qcow2 -F file x.qcow2
create -f qcow2 -b t.qcow2 -F blkdebug x.qcow2
create -f qcow2 -b t.qcow2 -F null-co x.qcow2
create -f qcow2 -b t.qcow2 -F host_device x.qcow2
create -f qcow2 -b blkdebug::g.qcow2 -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"g.qcow2"}}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"g.qcow2"},"backing":null}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"g.qcow2"},"backing":{"driver":"raw","file":{"driver":"file","filename":"r.raw"}}}' -F qcow2 x.qcow2
create -u -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"nope"}}' -F qcow2 x.qcow2 1M
create -u -f qcow2 -b 'json:{' -F qcow2 x.qcow2 1M
create -q -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"t.qcow2"}}' -F qcow2 x.qcow2
create -f qcow2 -o 'backing_file=json:{"driver":"qcow2",,"file.filename":"t.qcow2"},backing_fmt=qcow2' x.qcow2
create -f qcow2 -o 'backing_file=json:{"driver":"qcow2","file.filename":"t.qcow2"},backing_fmt=qcow2' x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"file","filename":"r.raw"}}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":"t.qcow2"}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"qcow2","file":{"driver":"nbd","host":"x"}}' -F foo x.qcow2
create -f qcow2 -b 'json:{"filename":"t.qcow2"}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"file","filename":"t.qcow2"}' -F qcow2 x.qcow2
create -f qcow2 -b 'json:{"driver":"file","filename":"t.qcow2"}' -F raw x.qcow2
create -f qcow2 -b 'json:{"driver":"file","filename":"t.qcow2"}' x.qcow2
`);

// The longest names, and those that do not fit
testLines(
  [1023, 1024, 2000]
    .map((length) => `create -f qcow2 -u -b ${'n'.repeat(length)} -F qcow2 x.qcow2 1M`)
    .concat(`create -f qcow2 -o cluster_size=512 -u -b ${'n'.repeat(500)} -F raw x.qcow2 1M`)
    .join('\n'),
);

testDifferences([
  ['create -f vmdk x 1M', 'formats that we do not have'],
  ['create -f file x 1M', 'protocols are no formats to us'],
  ['create -f qcow2 -b b.qcow2 -F vmdk x.qcow2', 'formats that we do not have'],
  ['create -f qcow2 /dev/full 1M', 'errors of the machine say where they happened'],
]);
