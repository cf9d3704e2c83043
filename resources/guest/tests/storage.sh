# Disks at work: does what the host types, one task a line. A disk is named CONTROLLER:LUN (VMBus), or by its number
# (virtio, with QEMU in busman's place). The tasks are in storage-*.sh.
. /tests/storage-disks.sh
. /tests/storage-files.sh
. /tests/storage-fio.sh

value kernel "$(uname -r)"
echo "lab: ready"
while read -r task rest; do
    case $task in
    end) break ;;
    warnings) warnings ;;
    disks) disks ;;
    "") continue ;;
    *) "task_$task" $rest || fail "$task $rest" ;;
    esac
    echo "lab: ready"
done
warnings
ok storage
