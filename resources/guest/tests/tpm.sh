# The TPM as Linux's driver and tpm2-tools find it; then does what the host types.
# Through the kernel's resource manager: the TPM has room for three objects.
export TPM2TOOLS_TCTI=device:/dev/tpmrm0
tpm=/sys/class/tpm/tpm0
index=0x1500016

# uses ARGUMENTS...: tpm2 with these.
uses() {
    tpm2 "$@" || fail "tpm2 $*"
}

until_true 20 test -c /dev/tpmrm0 || fail "no TPM"
value driver "$(readlink "$tpm/device/driver" | sed 's,.*/,,')"
value version "$(cat "$tpm/tpm_version_major")"
uses selftest --fulltest
value random "$(uses getrandom --hex 16)"

value fresh "$(cat "$tpm/pcr-sha256/16")"
uses pcrextend "16:sha256=$(printf '01%.0s' $(seq 32))"
value extended "$(tr A-F a-f <"$tpm/pcr-sha256/16")"
value read "$(uses pcrread sha256:16 | sed -n 's/^ *16 *: *//p')"

# The command that takes longest, and a use of what it makes.
uses createprimary --quiet --hierarchy o --key-algorithm rsa2048 --key-context /tmp/primary
uses create --quiet --parent-context /tmp/primary --key-algorithm rsa2048 --public /tmp/public --private /tmp/private
uses load --quiet --parent-context /tmp/primary --public /tmp/public --private /tmp/private --key-context /tmp/key
echo message >/tmp/message
uses sign --quiet --key-context /tmp/key --hash-algorithm sha256 --signature /tmp/signature /tmp/message
uses verifysignature --quiet --key-context /tmp/key --hash-algorithm sha256 --message /tmp/message --signature /tmp/signature

if tpm2 nvreadpublic "$index" >/dev/null 2>&1; then
    value kept "$(uses nvread --hierarchy o --size 8 "$index")"
else
    value kept new
    uses nvdefine --quiet --hierarchy o --size 8 "$index"
    printf busman01 >/tmp/kept
    uses nvwrite --quiet --hierarchy o --input /tmp/kept "$index"
fi

warnings
echo "lab: ready"
while read -r word; do
    case $word in
    poweroff) poweroff -f ;;
    reboot) reboot -f ;;
    *) fail "no such word: $word" ;;
    esac
done
fail "the console was closed"
