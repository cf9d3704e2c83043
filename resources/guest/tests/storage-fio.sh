# fio: patterns written and verified, and figures.

# run_fio NAME OPTION...: the result is in /tmp/fio, in fio's terse form.
run_fio() {
    fio --name="$@" --direct=1 --minimal --terse-version=3 --randrepeat=1 >/tmp/fio 2>/tmp/fio.errors ||
        fail "fio $*: $(cat /tmp/fio.errors /tmp/fio | tr '\n' ' ')"
}

# figure NUMBER: a field of fio's terse form (fio's HOWTO, "Terse output").
figure() {
    sed 1q /tmp/fio | cut -d ';' -f "$1"
}

# pattern DISK SIZES DEPTH MIB: random writes over that much of the disk, then every block is read and its checksum
# is compared. Sizes are one size or a range.
task_pattern() {
    run_fio pattern --filename="$(device "$1")" --ioengine=libaio --rw=randwrite --bsrange="$2" \
        --iodepth="$3" --size="$4m" --verify=crc32c --verify_fatal=1 --do_verify=1
    value pattern "read_kib=$(figure 6) written_kib=$(figure 47) error=$(figure 5)"
}

# fio DISK HOW SIZE DEPTH COUNT MIB: so many requests within the disk's first MIB.
task_fio() {
    run_fio figure --filename="$(device "$1")" --ioengine=io_uring --rw="$2" --bs="$3" --iodepth="$4" \
        --number_ios="$5" --io_size=1t --size="$6m" --norandommap --invalidate=0
    case $2 in
    *read) first=6 ;;
    *) first=47 ;;
    esac
    value fio "kib=$(figure $first) kib_per_s=$(figure $((first + 1))) iops=$(figure $((first + 2))) ms=$(figure $((first + 3)))"
}
