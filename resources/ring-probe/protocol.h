/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protocol of busman's loopback device: what goes over the channel. The host's side of it, with the words
 * that explain it, is devices/src/loopback.
 */
#ifndef RING_PROBE_PROTOCOL_H
#define RING_PROBE_PROTOCOL_H

#include <linux/types.h>
#include <linux/uuid.h>

#define LOOPBACK_GUID \
	.guid = GUID_INIT(0x40fe4059, 0xb70c, 0x418c, 0x95, 0x2e, 0x29, 0xdb, 0x11, 0xdf, 0xf3, 0xd0)

/* User data of OPEN_CHANNEL. */
struct loopback_wish {
	__le32 magic;
	/* Largest payload, header included, that either side will send. */
	__le32 max_payload;
} __packed;

#define LOOPBACK_MAGIC		0x4b4f4f4c
#define LOOPBACK_MAX_PAYLOAD	16384

enum loopback_operation {
	LOOPBACK_ECHO = 1,
	LOOPBACK_SINK,
	LOOPBACK_SOURCE,
	LOOPBACK_GPA_SUM,
	LOOPBACK_GPA_INVERT,
	LOOPBACK_DELAY,
};

enum loopback_status {
	LOOPBACK_OK,
	LOOPBACK_UNKNOWN,
	LOOPBACK_BAD,
	LOOPBACK_NO_ACCESS,
};

/* Every payload starts with this. */
struct loopback_header {
	__le32 operation;
	__le32 status;
	__le64 argument;
	__le32 count;
	/* Bytes of data behind the header. */
	__le32 length;
} __packed;

/* Limits of the device. */
#define LOOPBACK_MAX_SOURCE	65536
#define LOOPBACK_MAX_DELAYED	64
#define LOOPBACK_MAX_GPA_BYTES	(4 << 20)

#endif
