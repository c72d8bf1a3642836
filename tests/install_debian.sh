#!/bin/sh
# Debian's packages that tests need: openssh-server, rsync, fish and tcsh for `custom-gaze remote`,
# chromium, which looks at the pages, zsh, which completes commands, and slurm-wlm with munge, a
# cluster of one machine for the accuracy bench. What is missing is installed if the user may do
# that; otherwise those tests say why they are skipped.
PATH="$PATH:/usr/sbin:/sbin"
missing=
command -v sshd >/dev/null || missing="$missing openssh-server"
command -v chromium >/dev/null || missing="$missing chromium"
command -v rsync >/dev/null || missing="$missing rsync"
command -v fish >/dev/null || missing="$missing fish"
command -v tcsh >/dev/null || missing="$missing tcsh"
command -v zsh >/dev/null || missing="$missing zsh"
command -v slurmctld >/dev/null || missing="$missing slurm-wlm munge"
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null || exit 0
as_root=
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || exit 0
  as_root="sudo -n"
fi

echo "installing$missing, for the tests"
# Installed, not started: a machine on which tests run opens no port to anybody by that.
$as_root sh -eu -s -- $missing <<'ROOT' || echo "$missing could not be installed: those tests are skipped"
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi
install="apt-get install -y -qq --no-install-recommends $*"
$install </dev/null >/dev/null 2>&1 || {
  apt-get update -qq </dev/null
  $install </dev/null >/dev/null
}
# Nor does it do so at the next start, where it was not there before.
new=
case " $* " in *" openssh-server "*) new="$new ssh.service ssh.socket" ;; esac
case " $* " in *" slurm-wlm "*) new="$new munge.service slurmctld.service slurmd.service" ;; esac
if [ -n "$new" ] && [ -d /run/systemd/system ]; then systemctl --quiet disable $new; fi
ROOT
exit 0
