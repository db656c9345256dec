#!/bin/sh
# Installs kcopyd as a user does, from a folder of tarballs or (a version) from the registry, in a clean folder, and copies with it.
# For the release workflow: it runs in any image that has Node, Alpine's too, which has neither bash nor this checkout's tools.
#   scripts/try-package.sh TARBALLS|VERSION
set -eu
what=$1
scripts=$(cd "$(dirname "$0")" && pwd)

if [ -d "$what" ]; then
  libc=$(node -p 'process.report.getReport().header.glibcVersionRuntime ? "gnu" : "musl"')
  platform=linux-$(node -p process.arch)-$libc
  tarballs=$(cd "$what" && pwd)
  set -- "$tarballs"/kcopyd-[0-9]*.tgz "$tarballs"/kcopyd-binding-"$platform"-[0-9]*.tgz
else
  set -- "kcopyd@$what"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{ "private": true }' > package.json
npm install --no-audit --no-fund "$@"
cp "$scripts"/pack/customer/face.mjs "$scripts"/pack/customer/copy.mjs .
node face.mjs
head -c 67108864 /dev/urandom > source.img
for engine in auto threads; do
  : > one.img
  : > two.img
  node copy.mjs "$engine" source.img one.img two.img
  cmp source.img one.img
  cmp source.img two.img
done
: > three.img
./node_modules/.bin/kcopyd copy --json source.img three.img
cmp source.img three.img
echo "$* works here"
