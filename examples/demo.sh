#!/bin/sh
# `make demo` runs this: the example grants into a ledger of its own in .demo/,
# with the embedded PostgreSQL. Nothing outside .demo/ is read or written, except
# where the embedded server, started by root, has to keep its data elsewhere.
set -eu
cd "$(dirname "$0")/.."

home=$PWD/.demo
mkdir -p "$home"
cat >"$home/env" <<END
# Read by: . .demo/env
# From then on tokenctl in this shell means the demo's ledger.
for name in \$(env | sed -En 's/^(TOKENCTL_[A-Z_]*|PG[A-Z]*)=.*/\1/p'); do unset "\$name"; done
export XDG_CONFIG_HOME='$home/config' XDG_CONFIG_DIRS='$home/config' XDG_DATA_HOME='$home/data'
export XDG_STATE_HOME='$home/state' XDG_CACHE_HOME='$home/cache'
export PATH='$PWD/.venv/bin':"\$PATH"
END
. "$home/env"

show() {
  printf '\n$'
  printf ' %s' "$@"
  printf '\n'
  "$@"
}

trap 'tokenctl db stop >/dev/null 2>&1 || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo "The demo's ledger is in .demo/. The first start makes the database and takes a few seconds."
show tokenctl batch-import examples/november-bonuses.csv --yes --expect-rows 5000 --expect-total 497150
show tokenctl balance u_30873 u_42816 mira.kovac57@example.org

printf '\nThe same file once more changes nothing:\n'
show tokenctl batch-import examples/november-bonuses.csv --yes --expect-rows 5000 --expect-total 497150

printf '\nA file with mistakes is refused as a whole (exit 65), and every mistake is named:\n'
code=0
show tokenctl batch-import examples/with-mistakes.csv --yes || code=$?
test "$code" -eq 65

trap - EXIT
show tokenctl db stop
cat <<'END'

To go on by hand, in this shell (the database starts by itself):

  . .demo/env
  tokenctl balance u_30873
  tokenctl grant-bonus u_30873 --amount 50 --reason goodwill
  tokenctl batch-import examples/december-promo.jsonl
  tokenctl db stop

To start over: rm -r .demo
END
