#!/bin/sh
# Pack the working directory into $COG_OUTPUT_DIR/model.tar, so that the same files always give the same bytes.
set -eu

# Both change what tar does. LC_ALL also decides how names are ordered and messages are worded.
unset TAR_OPTIONS POSIXLY_CORRECT
LC_ALL=C
export LC_ALL
umask 022

gnu_tar() {
    for name in tar gtar; do
        case $("$name" --version 2>/dev/null || :) in
        *"GNU tar"*)
            echo "$name"
            return
            ;;
        esac
    done
    echo "GNU tar is needed and was not found: install the package tar (Debian, Alpine) or gnu-tar (Homebrew)" >&2
    return 1
}

tar=$(gnu_tar)
target=${COG_OUTPUT_DIR:?}/model.tar

# Out of the archive: times, owners, all mode bits but "executable", and whether equal files share an inode.
status=0
"$tar" --create --file="$target" --format=gnu \
    --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
    --mode=u=rwX,go=rX --hard-dereference . || status=$?

# 1 says that a file "changed": tar goes by its ctime, which a further link to a file that versions share moves too.
# Whether the content changed is checked by cogbuild when the adapter has ended.
if [ "$status" -gt 1 ]; then
    exit "$status"
fi

printf '%s\n' "$target"
