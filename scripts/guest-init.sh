#!/bin/sh
# The only program of the guest that guest.ts boots: writes files into an ext4 on /dev/vda, and tells on the
# console what they must hold. "stage=" on the kernel's command line says which boot it is; the last one goes
# on until a line comes over the console.
export PATH=/bin
mount -t devtmpfs dev /dev 2>/dev/null
mount -t proc proc /proc
mount -t tmpfs tmp /tmp
for each in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
  [ -e "/modules/$each.ko" ] && insmod "/modules/$each.ko" || echo "no $each"
done
for i in 1 2 3 4 5 6 7 8 9 10; do
  [ -b /dev/vda ] && break
  sleep 1
done
stage=$(sed 's/.*stage=\([0-9a-z]*\).*/\1/' /proc/cmdline)

end() {
  echo "GUEST $*"
  sync
  poweroff -f
}

# Its content is known before it is on the disk.
write() {
  dd if=/dev/urandom of=/tmp/file bs=4k count=$(($(od -An -N1 -tu1 /dev/urandom) + 1)) 2>/dev/null
  sum=$(sha256sum < /tmp/file | cut -d' ' -f1)
  cp /tmp/file "/mnt/$1" || end "failed to write $1"
  echo "$sum  $1" >> /mnt/sums
  echo "SUM $sum $1"
}

verify() {
  [ -s /mnt/sums ] || return 0
  echo 3 > /proc/sys/vm/drop_caches
  (cd /mnt && sha256sum -c sums > /tmp/verified) || end "failed: $(grep -v ': OK$' /tmp/verified)"
}

if [ "$stage" = 0 ]; then
  /sbin/mke2fs -q -F -t ext4 /dev/vda > /tmp/told 2>&1 || end "failed: mke2fs: $(cat /tmp/told)"
fi
mount -t ext4 -o discard /dev/vda /mnt || end 'failed: mount'
touch /mnt/sums
verify
if [ "$stage" != last ]; then
  for i in 1 2 3 4 5 6 7 8 9 10 11 12; do write "stage$stage-$i"; done
else
  (read -r _ < /dev/console; touch /tmp/stop) &
  echo 'GUEST writes'
  i=0
  while [ $i -lt 20 ] || [ ! -e /tmp/stop ]; do
    i=$((i + 1))
    write "last-$i"
    [ $((i % 4)) = 0 ] && sync
    [ $((i % 10)) = 0 ] && verify
    if [ $i -gt 8 ] && [ $((i % 3)) = 0 ]; then
      old="last-$((i - 5))"
      grep -v " $old\$" /mnt/sums > /tmp/sums
      cp /tmp/sums /mnt/sums
      rm "/mnt/$old" && echo "GONE $old"
    fi
  done
fi
verify
umount /mnt || end 'failed: umount'
end 'done'
