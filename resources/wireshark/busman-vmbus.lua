-- Dissects what `busman run --trace FILE.pcapng` records: VMBus control messages and packets.
--
-- Use it once:      wireshark -X lua_script:busman-vmbus.lua bus.pcapng
-- or for good:      copy it to ~/.local/lib/wireshark/plugins/
--
-- Records have link type DLT_USER0 (147) and start with a pseudo header of busman's, which says what follows: a
-- control message (from its 8-byte header on), a packet as it lies in a ring (descriptor, extension, payload), or a
-- sentence of the host. devices/src/vmbus/trace/protocol.rs describes that header, devices/src/vmbus/protocol/ the
-- messages, devices/src/vmbus/ring/protocol.rs packets, devices/src/ic/protocol.rs the integration services.
-- All numbers are little-endian.

local vmbus = Proto("vmbus", "Virtual Machine Bus")

local HEADER_VERSION = 1
local MESSAGE, PACKET, NOTE = 0, 1, 2
local TO_GUEST = 1
local FLAG_PIPE = 1
local PAGE = 4096
local IN_BAND = 6

local f = {}

local function field(kind, name, title, ...)
    f[name] = ProtoField[kind]("vmbus." .. name, title, ...)
    return f[name]
end

-- What numbers mean ----------------------------------------------------------------------------------------------

local kinds = { [MESSAGE] = "control message", [PACKET] = "packet", [NOTE] = "note" }
local directions = { [0] = "guest to host", [TO_GUEST] = "host to guest" }
local statuses = {
    [0] = "success",
    [0xC0000001] = "unsuccessful",
    [0xC000000D] = "invalid parameter",
    [0xC000009A] = "insufficient resources",
    [0xC0000236] = "connection refused",
}
local packet_types = {
    [IN_BAND] = "IN_BAND",
    [7] = "TRANSFER_PAGES",
    [9] = "GPA_DIRECT",
    [0xb] = "COMPLETION",
}
local pipe_types = { [1] = "data" }
local ic_types = {
    [0] = "NEGOTIATE",
    [1] = "HEARTBEAT",
    [2] = "KVP",
    [3] = "SHUTDOWN",
    [4] = "TIME_SYNC",
    [5] = "VSS",
    [7] = "FILE_COPY",
}
local kvp_operations = { [0] = "get", "set", "delete", "enumerate", "get addresses", "set addresses" }
local kvp_pools = { [0] = "external", "guest", "auto", "auto-external" }
local vss_operations = {
    [0] = "create", "delete", "check hot backup", "get direct-mapped disks", "backup complete", "freeze", "thaw", "auto recover",
}
local fcopy_operations = { [0] = "start", "write", "complete", "cancel" }
local application_states = { [0] = "unknown", [1] = "healthy", [2] = "critical", [3] = "stopped" }
local sync_kinds = { [1] = "set the clock", [2] = "sample" }

-- The loopback device, see devices/src/loopback/protocol.rs.
local loopback_operations = { "ECHO", "SINK", "SOURCE", "GPA_SUM", "GPA_INVERT", "DELAY" }
local loopback_statuses = { [0] = "success", "unknown operation", "bad request", "not memory" }

-- Interface GUIDs: name, and the protocol of payloads if this file knows it.
local interfaces = {
    ["ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"] = { "SCSI" },
    ["32412632-86cb-44a2-9b5c-50d1417354f5"] = { "IDE" },
    ["2f9bcc4a-0069-4af3-b76b-6fd0be528cda"] = { "Fibre Channel" },
    ["f8615163-df3e-46c5-913f-f2d2f965ed0e"] = { "network" },
    ["f912ad6d-2b17-48ea-bd65-f927a61c7684"] = { "keyboard" },
    ["cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a"] = { "mouse" },
    ["da0a7802-e377-4aac-8e77-0558eb1073f8"] = { "video" },
    ["c376c1c3-d276-48d2-90a9-c04748072c60"] = { "vmbfs" },
    ["0e0b6031-5213-4934-818b-38d90ced39db"] = { "shutdown", "services" },
    ["9527e630-d0ae-497b-adce-e80ab0175caf"] = { "time sync", "services" },
    ["57164f39-9115-4e78-ab55-382f3bd5422d"] = { "heartbeat", "services" },
    ["a9a0f4e7-5a45-4d96-b827-8a841e8c03e6"] = { "KVP", "services" },
    ["35fa2e29-ea23-4236-96ae-3a6ebacba440"] = { "VSS", "services" },
    ["34d14be3-dee4-41c8-9ae7-6b174977c192"] = { "file copy", "services" },
    ["525074dc-8985-46e2-8057-a307dc18a502"] = { "dynamic memory" },
    ["44c4f61d-4444-4400-9d52-802e27ede19f"] = { "PCI" },
    ["40fe4059-b70c-418c-952e-29db11dff3d0"] = { "loopback", "loopback" },
}

-- Fields ---------------------------------------------------------------------------------------------------------

field("uint8", "header.version", "Version of this header")
field("uint8", "header.length", "Length of this header")
field("uint8", "kind", "Kind", base.DEC, kinds)
field("uint8", "direction", "Direction", base.DEC, directions)
field("bool", "pipe", "Payload has a pipe header", 16, nil, FLAG_PIPE)
field("uint8", "posted.sint", "To SINT")
field("uint32", "posted.vp", "To VP")
field("uint32", "posted.connection_id", "Posted to connection id", base.HEX)
field("uint32", "doorbell", "Connection id of the doorbell", base.HEX)
field("guid", "interface", "Interface", base.NONE)
field("string", "device", "Kind of device")
field("string", "note", "Note")

field("uint32", "type", "Message type", base.DEC)
field("uint32", "padding", "Padding")
field("guid", "instance", "Instance", base.NONE)
field("bytes", "reserved", "Reserved")
field("bytes", "extra", "Bytes behind the message")
field("uint16", "offer.flags", "Flags", base.HEX)
field("bool", "offer.flags.interface", "Enumerate device interface", 16, nil, 0x0001)
field("bool", "offer.flags.pipe", "Named pipe mode", 16, nil, 0x0010)
field("bool", "offer.flags.socket", "Hyper-V socket", 16, nil, 0x2000)
field("uint16", "offer.mmio", "MMIO (MiB)")
field("uint16", "offer.mmio_optional", "Optional MMIO (MiB)")
field("bytes", "user_data", "User data")
field("uint16", "offer.sub_channel", "Sub-channel")
field("uint8", "offer.monitor_id", "Monitor id")
field("uint8", "offer.monitor_allocated", "Monitor allocated")
field("uint16", "offer.dedicated_interrupt", "Dedicated interrupt")
field("uint32", "connection_id", "Connection id", base.HEX)
field("uint16", "event_flag", "Event flag")
field("uint16", "open.flags", "Flags", base.HEX)
field("uint32", "channel", "Channel")
field("uint32", "open_id", "Open id", base.HEX)
field("uint32", "gpadl", "GPADL", base.HEX)
field("uint32", "target_vp", "Target VP")
field("uint32", "target_sint", "Target SINT")
field("uint32", "downstream", "Incoming ring starts at page")
field("uint32", "status", "Status", base.HEX, statuses)
field("uint16", "gpadl.buflen", "Bytes of all ranges")
field("uint16", "gpadl.count", "Ranges")
field("uint32", "gpadl.message", "Message number")
field("uint32", "range.length", "Byte count")
field("uint32", "range.offset", "Byte offset")
field("uint64", "range.pfn", "Page", base.HEX)
field("uint32", "version", "Version", base.HEX)
field("uint8", "sint", "SINT")
field("uint8", "vtl", "VTL")
field("uint32", "features", "Feature flags", base.HEX)
field("bool", "features.signal", "Guest-specified signal parameters", 32, nil, 0x01)
field("bool", "features.modify", "Modify connection", 32, nil, 0x04)
field("bool", "features.client", "Client id", 32, nil, 0x08)
field("bool", "features.pause", "Pause and resume", 32, nil, 0x20)
field("uint64", "interrupt_page", "Interrupt page", base.HEX)
field("uint64", "monitor.to_guest", "Host's monitor page", base.HEX)
field("uint64", "monitor.to_host", "Guest's monitor page", base.HEX)
field("guid", "client_id", "Client id", base.NONE)
field("uint8", "supported", "Supported")
field("uint8", "connection_state", "Connection state")
field("guid", "endpoint", "Guest's endpoint", base.NONE)
field("guid", "service", "Host's service", base.NONE)
field("guid", "silo", "Silo", base.NONE)

field("uint16", "packet.type", "Packet type", base.HEX, packet_types)
field("uint16", "packet.offset", "Payload offset")
field("uint16", "packet.length", "Length")
field("uint16", "packet.flags", "Flags", base.HEX)
field("bool", "packet.flags.completion", "Completion requested", 16, nil, 0x0001)
field("uint64", "packet.transaction", "Transaction id", base.HEX)
field("bytes", "packet.extension", "Extension")
field("bytes", "packet.payload", "Payload")
field("bytes", "packet.padding", "Padding")
field("uint32", "ranges", "Ranges")
field("uint16", "pageset", "Page set")
field("uint8", "owner", "Sender owns set")
field("uint32", "pipe.type", "Pipe message type", base.DEC, pipe_types)
field("uint32", "pipe.length", "Data length")
field("bytes", "pipe.data", "Data")

field("string", "ic.framework", "Framework version")
field("uint16", "ic.type", "Type", base.DEC, ic_types)
field("string", "ic.version", "Message version")
field("uint16", "ic.size", "Body length")
field("uint32", "ic.status", "Status (HRESULT)", base.HEX)
field("uint8", "ic.transaction", "Transaction id")
field("uint8", "ic.flags", "Flags", base.HEX)
field("bool", "ic.flags.transaction", "Transaction", 8, nil, 1)
field("bool", "ic.flags.request", "Request", 8, nil, 2)
field("bool", "ic.flags.response", "Response", 8, nil, 4)
field("uint16", "ic.framework_count", "Framework versions")
field("uint16", "ic.version_count", "Message versions")
field("string", "ic.offered_framework", "Framework")
field("string", "ic.offered_version", "Message")
field("uint32", "ic.shutdown.reason", "Reason", base.HEX)
field("uint32", "ic.shutdown.timeout", "Time for programs to end (s)")
field("uint32", "ic.shutdown.flags", "Flags", base.HEX)
field("bool", "ic.shutdown.force", "Force", 32, nil, 1)
field("bool", "ic.shutdown.restart", "Restart", 32, nil, 2)
field("bool", "ic.shutdown.hibernate", "Hibernate", 32, nil, 4)
field("string", "ic.shutdown.text", "Text")
field("uint64", "ic.heartbeat.sequence", "Sequence")
field("uint32", "ic.heartbeat.state", "Applications", base.DEC, application_states)
field("absolute_time", "ic.time.host", "Host's time", base.UTC)
field("uint64", "ic.time.reference", "Reference time (100 ns)")
field("uint64", "ic.time.child", "Guest's time (unused)")
field("uint64", "ic.time.round_trip", "Round trip time (unused)")
field("uint8", "ic.time.flags", "Flags", base.DEC, sync_kinds)
field("uint8", "ic.time.leap", "Leap flags", base.HEX)
field("uint8", "ic.time.stratum", "Stratum")
field("uint8", "ic.kvp.operation", "Operation", base.DEC, kvp_operations)
field("uint8", "ic.kvp.pool", "Pool", base.DEC, kvp_pools)
field("uint32", "ic.kvp.index", "Index")
field("uint8", "ic.vss.operation", "Operation", base.DEC, vss_operations)
field("uint32", "ic.fcopy.operation", "Operation", base.DEC, fcopy_operations)
field("uint64", "ic.fcopy.offset", "Offset")
field("uint32", "ic.fcopy.size", "Bytes")
field("bytes", "ic.body", "Body")

field("uint32", "loopback.operation", "Operation", base.DEC, loopback_operations)
field("uint32", "loopback.status", "Status", base.DEC, loopback_statuses)
field("uint64", "loopback.argument", "Argument", base.HEX)
field("uint32", "loopback.count", "Packets")
field("uint32", "loopback.length", "Bytes in each")

local all = {}
for _, each in pairs(f) do
    all[#all + 1] = each
end
vmbus.fields = all

local short = ProtoExpert.new(
    "vmbus.short", "Ends before all of its fields", expert.group.MALFORMED, expert.severity.WARN)
local unknown = ProtoExpert.new(
    "vmbus.unknown", "Not known to this dissector", expert.group.UNDECODED, expert.severity.NOTE)
local failed = ProtoExpert.new(
    "vmbus.failed", "The host refused", expert.group.RESPONSE_CODE, expert.severity.NOTE)
vmbus.experts = { short, unknown, failed }

-- Reading --------------------------------------------------------------------------------------------------------

-- A number without a fraction, also where Lua tells 1 and 1.0 apart.
local function uint(range)
    return math.floor(range:le_uint())
end

-- Walks over a piece of a record from its start. What would be behind the piece's end is nil, and noted once: a guest
-- may say anything.
local Reader = {}
Reader.__index = Reader

local function reader(buffer, tree)
    return setmetatable({ buffer = buffer, at = 0, tree = tree, ended = false }, Reader)
end

function Reader:left()
    return self.buffer:len() - self.at
end

-- The next bytes; nil also of none, for which Wireshark has no range.
function Reader:take(size)
    if size == 0 then
        return nil
    end
    if self.ended or size > self:left() then
        if not self.ended then
            self.tree:add_proto_expert_info(short)
        end
        self.ended = true
        return nil
    end
    local range = self.buffer(self.at, size)
    self.at = self.at + size
    return range
end

-- Shows the next bytes as a field; the range and the item in the tree.
function Reader:show(name, size, tree)
    local range = self:take(size)
    if range then
        return range, (tree or self.tree):add_le(f[name], range)
    end
end

-- Shows a number of 1, 2 or 4 bytes and returns it.
function Reader:number(name, size, tree)
    local range, item = self:show(name, size, tree)
    return range and uint(range), item
end

function Reader:guid(name)
    local range, item = self:show(name, 16)
    if not range then
        return nil
    end
    local b = range:bytes()
    local text = ""
    for _, i in ipairs({ 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 }) do
        text = text .. string.format("%02x", b:get_index(i))
        if i == 0 or i == 4 or i == 6 or i == 9 then
            text = text .. "-"
        end
    end
    return text, item
end

-- Shows all that is left, if anything is.
function Reader:rest(name)
    if not self.ended and self:left() > 0 then
        self:show(name, self:left())
    end
end

-- Shows flags below a field that holds them all.
function Reader:flags(name, size, flags)
    local range, item = self:show(name, size)
    if range then
        for _, flag in ipairs(flags) do
            item:add_le(f[name .. "." .. flag], range)
        end
    end
    return range and uint(range)
end

local function hex(number)
    return number and string.format("0x%x", number) or "?"
end

local function text(value)
    return value == nil and "?" or tostring(value)
end

local function version_text(version)
    return version and string.format("%d.%d", math.floor(version / 65536), version % 65536) or "?"
end

local function count_text(count, noun)
    return count == 1 and "1 " .. noun or text(count) .. " " .. noun .. "s"
end

-- Channels -------------------------------------------------------------------------------------------------------

-- What each channel id stood for: pairs of record number and name, in order. Ids are used again after a new contact.
local offered = {}

function vmbus.init()
    offered = {}
end

local function note_offer(channel, name, number)
    local list = offered[channel] or {}
    offered[channel] = list
    if #list == 0 or list[#list][1] < number then
        list[#list + 1] = { number, name }
    end
end

-- A channel as people know it: its id, and its device if the offer is in the trace.
local function channel_text(channel, number)
    local name
    for _, offer in ipairs(offered[channel] or {}) do
        if offer[1] <= number then
            name = offer[2]
        end
    end
    return "channel " .. text(channel) .. (name and " (" .. name .. ")" or "")
end

local function device_of(guid)
    local known = interfaces[guid or ""]
    return known and known[1], known and known[2]
end

-- Guest memory ---------------------------------------------------------------------------------------------------

-- Shows the page numbers that are left, at most `most` of them.
local function show_pages(r, tree, most)
    local shown = 0
    while shown < most and r:left() >= 8 do
        r:show("range.pfn", 8, tree)
        shown = shown + 1
    end
    return shown
end

-- Shows ranges of guest memory, each a header and its pages. Returns bytes and pages as the headers say them.
-- `continued`: pages may follow in other messages.
local function show_ranges(r, count, continued)
    local bytes, pages = 0, 0
    for index = 1, count do
        if r:left() < 8 then
            if not continued then
                r:take(8)
            end
            break
        end
        local start, size = r.at, 8
        local tree = r.tree:add(vmbus, r.buffer(start, size))
        local length, offset = r:number("range.length", 4, tree), r:number("range.offset", 4, tree)
        local needed = math.ceil((length + offset) / PAGE)
        local shown = show_pages(r, tree, needed)
        tree:set_text(string.format("Range %d: %d bytes at offset %d, %s", index, length, offset,
            count_text(needed, "page")))
        tree:set_len(size + shown * 8)
        if shown < needed and not continued then
            tree:add_proto_expert_info(short)
        end
        bytes, pages = bytes + length, pages + needed
    end
    return bytes, pages
end

-- Control messages -----------------------------------------------------------------------------------------------

-- Shows the status of an answer; text for the info column.
local function show_status(r)
    local status, item = r:number("status", 4)
    if status == nil then
        return ""
    end
    if status == 0 then
        return "success"
    end
    item:add_proto_expert_info(failed)
    return "FAILED: " .. (statuses[status] or hex(status))
end

local function show_channel(r, context)
    return channel_text(r:number("channel", 4), context.number)
end

local function show_target(r)
    local vp, item = r:number("target_vp", 4)
    if vp == 0xFFFFFFFF then
        item:append_text(" (no interrupts)")
        return "no VP"
    end
    return "VP " .. text(vp)
end

local function show_gpadl(r)
    return "gpadl " .. hex(r:number("gpadl", 4))
end

local function channel_only(r, context)
    return show_channel(r, context)
end

local function nothing()
    return ""
end

local function offer_channel(r, context)
    local interface, item = r:guid("interface")
    local name = device_of(interface)
    if name then
        item:append_text(" (" .. name .. ")")
    end
    r:guid("instance")
    r:show("reserved", 16)
    local flags = r:flags("offer.flags", 2, { "interface", "pipe", "socket" })
    r:number("offer.mmio", 2)
    r:show("user_data", 120)
    local sub_channel = r:number("offer.sub_channel", 2)
    r:number("offer.mmio_optional", 2)
    local channel = r:number("channel", 4)
    r:number("offer.monitor_id", 1)
    r:number("offer.monitor_allocated", 1)
    r:number("offer.dedicated_interrupt", 2)
    local connection = r:number("connection_id", 4)
    name = name or flags and math.floor(flags / 0x2000) % 2 == 1 and "socket" or interface
    if sub_channel and sub_channel > 0 then
        name = name .. " sub-channel " .. sub_channel
    end
    if channel then
        note_offer(channel, name, context.number)
    end
    return string.format("channel %s %s, doorbell %s", text(channel), text(name), hex(connection))
end

local function open_channel(r, context)
    local channel = show_channel(r, context)
    r:number("open_id", 4)
    local gpadl = show_gpadl(r)
    local target = show_target(r)
    local downstream = r:number("downstream", 4)
    r:show("user_data", 120)
    -- With guest-specified signal parameters, and only then, the message goes on.
    if r:left() >= 8 then
        r:number("connection_id", 4)
        r:number("event_flag", 2)
        r:number("open.flags", 2)
    end
    return string.format("%s %s, incoming ring from page %s, %s", channel, gpadl, text(downstream), target)
end

local function open_channel_result(r, context)
    local channel = show_channel(r, context)
    r:number("open_id", 4)
    return channel .. " " .. show_status(r)
end

local function gpadl_header(r, context)
    local channel = show_channel(r, context)
    local gpadl = show_gpadl(r)
    r:number("gpadl.buflen", 2)
    local count = r:number("gpadl.count", 2)
    local _, pages = show_ranges(r, count or 0, true)
    return string.format("%s %s %s", channel, gpadl, count_text(pages, "page"))
end

local function gpadl_body(r)
    r:number("gpadl.message", 4)
    local gpadl = show_gpadl(r)
    return string.format("%s %s more", gpadl, count_text(show_pages(r, r.tree, math.huge), "page"))
end

local function gpadl_created(r, context)
    local channel = show_channel(r, context)
    local gpadl = show_gpadl(r)
    return string.format("%s %s %s", channel, gpadl, show_status(r))
end

local function gpadl_teardown(r, context)
    local channel = show_channel(r, context)
    return channel .. " " .. show_gpadl(r)
end

local function initiate_contact(r)
    local version, item = r:number("version", 4)
    if version then
        item:append_text(" (" .. version_text(version) .. ")")
    end
    local target = show_target(r)
    local sint
    -- Until 4.1 the next 8 bytes are the address of a page.
    if version and version < 0x50000 then
        r:show("interrupt_page", 8)
    else
        sint = r:number("sint", 1)
        r:number("vtl", 1)
        r:show("reserved", 2)
        r:flags("features", 4, { "signal", "modify", "client", "pause" })
    end
    r:show("monitor.to_guest", 8)
    r:show("monitor.to_host", 8)
    if r:left() >= 16 then
        r:guid("client_id")
    end
    return string.format("version %s, answers to %s%s", version_text(version), target,
        sint and " SINT " .. sint or "")
end

local function version_response(r)
    local supported = r:number("supported", 1)
    local state = r:number("connection_state", 1)
    r:show("reserved", 2)
    -- Connection ids are small, versions are not: 2.4 is 0x20004.
    local range = r:take(4)
    local port
    if range and uint(range) >= 0x10000 then
        r.tree:add_le(f["version"], range):append_text(" (" .. version_text(uint(range)) .. ")")
    elseif range then
        port = uint(range)
        r.tree:add_le(f["connection_id"], range)
    end
    if r:left() >= 4 then
        r:flags("features", 4, { "signal", "modify", "client", "pause" })
    end
    if supported == 0 then
        return "not in this version"
    end
    if state ~= 0 then
        return "refused, state " .. text(state)
    end
    return "yes" .. (port and port > 0 and ", post to connection id " .. port or "")
end

local function open_reserved_channel(r, context)
    local channel = show_channel(r, context)
    local target = show_target(r)
    local sint = r:number("target_sint", 4)
    local gpadl = show_gpadl(r)
    local downstream = r:number("downstream", 4)
    return string.format("%s %s, incoming ring from page %s, answers to %s SINT %s", channel, gpadl,
        text(downstream), target, text(sint))
end

local function close_reserved_channel(r, context)
    local channel = show_channel(r, context)
    local target = show_target(r)
    return string.format("%s, answer to %s SINT %s", channel, target, text(r:number("target_sint", 4)))
end

local function tl_connect(r)
    local endpoint, service = r:guid("endpoint"), r:guid("service")
    return string.format("from %s to %s", text(endpoint), text(service))
end

local function tl_connect_request(r)
    local ends = tl_connect(r)
    if r:left() >= 16 then
        r:guid("silo")
    end
    return ends
end

local function tl_connect_result(r)
    local ends = tl_connect(r)
    return ends .. " " .. show_status(r)
end

local function modify_channel(r, context)
    local channel = show_channel(r, context)
    return channel .. " to " .. show_target(r)
end

local function modify_channel_response(r, context)
    local channel = show_channel(r, context)
    return channel .. " " .. show_status(r)
end

local function modify_connection(r)
    r:show("monitor.to_guest", 8)
    r:show("monitor.to_host", 8)
    return ""
end

local function modify_connection_response(r)
    local state = r:number("connection_state", 1)
    return state == 0 and "success" or "FAILED: state " .. text(state)
end

-- By number: name, and what shows the body and returns text for the info column.
local messages = {
    [0] = { "INVALID", nothing },
    { "OFFER_CHANNEL", offer_channel },
    { "RESCIND_CHANNEL_OFFER", channel_only },
    { "REQUEST_OFFERS", nothing },
    { "ALL_OFFERS_DELIVERED", nothing },
    { "OPEN_CHANNEL", open_channel },
    { "OPEN_CHANNEL_RESULT", open_channel_result },
    { "CLOSE_CHANNEL", channel_only },
    { "GPADL_HEADER", gpadl_header },
    { "GPADL_BODY", gpadl_body },
    { "GPADL_CREATED", gpadl_created },
    { "GPADL_TEARDOWN", gpadl_teardown },
    { "GPADL_TORNDOWN", show_gpadl },
    { "RELID_RELEASED", channel_only },
    { "INITIATE_CONTACT", initiate_contact },
    { "VERSION_RESPONSE", version_response },
    { "UNLOAD", nothing },
    { "UNLOAD_COMPLETE", nothing },
    { "OPEN_RESERVED_CHANNEL", open_reserved_channel },
    { "CLOSE_RESERVED_CHANNEL", close_reserved_channel },
    { "CLOSE_RESERVED_RESPONSE", channel_only },
    { "TL_CONNECT_REQUEST", tl_connect_request },
    { "MODIFY_CHANNEL", modify_channel },
    { "TL_CONNECT_RESULT", tl_connect_result },
    { "MODIFY_CHANNEL_RESPONSE", modify_channel_response },
    { "MODIFY_CONNECTION", modify_connection },
    { "MODIFY_CONNECTION_RESPONSE", modify_connection_response },
    { "PAUSE", nothing },
    { "PAUSE_RESPONSE", nothing },
    { "RESUME", nothing },
}

local function dissect_message(buffer, tree, context)
    local r = reader(buffer, tree)
    local kind, item = r:number("type", 4)
    local message = messages[kind or -1]
    r:number("padding", 4)
    if not message then
        if item then
            item:add_proto_expert_info(unknown)
        end
        r:rest("extra")
        return "Message of unknown type " .. text(kind)
    end
    item:append_text(" (" .. message[1] .. ")")
    tree:append_text(", " .. message[1])
    local said = message[2](r, context)
    r:rest("extra")
    return said == "" and message[1] or message[1] .. " " .. said
end

-- Integration services -------------------------------------------------------------------------------------------

-- Shows a version of two 16-bit numbers; its text.
local function show_ic_version(r, name)
    local range = r:take(4)
    if not range then
        return nil
    end
    local version = uint(range(0, 2)) .. "." .. uint(range(2, 2))
    r.tree:add(f[name], range, version)
    return version, uint(range(0, 2))
end

local function ic_negotiate(r)
    local frameworks, versions = r:number("ic.framework_count", 2), r:number("ic.version_count", 2)
    r:show("reserved", 4)
    local function list(count, name)
        local texts = {}
        for _ = 1, count or 0 do
            if r.ended then
                break
            end
            texts[#texts + 1] = show_ic_version(r, name)
        end
        return table.concat(texts, ", ")
    end
    local framework = list(frameworks, "ic.offered_framework")
    return string.format("framework %s; message %s", framework, list(versions, "ic.offered_version"))
end

local function ic_shutdown(r, header)
    if header.answer then
        r:rest("ic.body")
        return ""
    end
    r:number("ic.shutdown.reason", 4)
    local timeout = r:number("ic.shutdown.timeout", 4)
    local range, item = r:show("ic.shutdown.flags", 4)
    local flags = range and uint(range) or 0
    for _, flag in ipairs(range and { "force", "restart", "hibernate" } or {}) do
        item:add_le(f["ic.shutdown." .. flag], range)
    end
    if r:left() > 0 then
        local message = r:take(r:left())
        r.tree:add(f["ic.shutdown.text"], message, message:stringz())
    end
    local what = flags % 8 >= 4 and "hibernate" or flags % 4 >= 2 and "restart" or "power off"
    return string.format("%s%s, programs have %s s", what, flags % 2 == 1 and " by force" or "", text(timeout))
end

local function ic_heartbeat(r)
    local range = r:show("ic.heartbeat.sequence", 8)
    local state = r:number("ic.heartbeat.state", 4)
    r:show("reserved", 28)
    return string.format("sequence %s, applications %s", range and tostring(range:le_uint64()) or "?",
        application_states[state] or text(state))
end

-- Windows' time is in 100 ns since 1601-01-01.
local EPOCH_SECONDS = 11644473600

local function show_host_time(r)
    local range = r:take(8)
    if not range then
        return
    end
    local ticks = range:le_uint64()
    local seconds, rest = (ticks / 10000000):tonumber(), (ticks % 10000000):tonumber()
    r.tree:add(f["ic.time.host"], range, NSTime.new(seconds - EPOCH_SECONDS, rest * 100))
end

local function ic_time_sync(r, header)
    show_host_time(r)
    local flags
    if header.major and header.major >= 4 then
        r:show("ic.time.reference", 8)
        flags = r:number("ic.time.flags", 1)
        r:number("ic.time.leap", 1)
        r:number("ic.time.stratum", 1)
        r:show("reserved", 5)
    else
        r:show("ic.time.child", 8)
        r:show("ic.time.round_trip", 8)
        flags = r:number("ic.time.flags", 1)
    end
    return sync_kinds[flags] or "flags " .. text(flags)
end

local function ic_kvp(r)
    local operation, pool = r:number("ic.kvp.operation", 1), r:number("ic.kvp.pool", 1)
    local what = kvp_operations[operation] or "operation " .. text(operation)
    if operation == 3 then
        r:show("reserved", 2)
        what = what .. " " .. text(r:number("ic.kvp.index", 4))
    end
    return string.format("%s, pool %s", what, kvp_pools[pool] or text(pool))
end

local function ic_vss(r)
    local operation = r:number("ic.vss.operation", 1)
    return vss_operations[operation] or "operation " .. text(operation)
end

local function ic_fcopy(r)
    local operation = r:number("ic.fcopy.operation", 4)
    local what = fcopy_operations[operation] or "operation " .. text(operation)
    if operation ~= 1 then
        return what
    end
    r:show("reserved", 36)
    local range = r:show("ic.fcopy.offset", 8)
    local size = r:number("ic.fcopy.size", 4)
    return string.format("%s %s bytes at %s", what, text(size), range and tostring(range:le_uint64()) or "?")
end

local ic_bodies = {
    [0] = ic_negotiate, [1] = ic_heartbeat, [2] = ic_kvp, [3] = ic_shutdown, [4] = ic_time_sync, [5] = ic_vss,
    [7] = ic_fcopy,
}

local function dissect_ic(r)
    local tree = r.tree:add(vmbus, r.buffer(r.at), "Integration service")
    local ic = reader(r.buffer(r.at), tree)
    show_ic_version(ic, "ic.framework")
    local kind = ic:number("ic.type", 2)
    local _, major = show_ic_version(ic, "ic.version")
    local size = ic:number("ic.size", 2)
    local status, item = ic:number("ic.status", 4)
    ic:number("ic.transaction", 1)
    local flags = ic:flags("ic.flags", 1, { "transaction", "request", "response" })
    ic:show("reserved", 2)
    if not flags then
        return "integration service"
    end
    local answer = flags % 8 >= 4
    local info = (ic_types[kind] or "type " .. kind) .. (answer and " response" or " request")
    if status ~= 0 then
        item:add_proto_expert_info(failed)
        info = info .. " FAILED: " .. hex(status)
    end
    local body = reader(ic:take(math.min(size, ic:left())), tree)
    local show = ic_bodies[kind]
    if show and body.buffer and body:left() > 0 then
        local said = show(body, { answer = answer, major = major })
        info = info .. (said ~= "" and ": " .. said or "")
    end
    if body.buffer then
        body:rest("ic.body")
    end
    ic:rest("extra")
    return info
end

-- Packets --------------------------------------------------------------------------------------------------------

local function gpa_direct(r)
    r:show("reserved", 4)
    local count = r:number("ranges", 4)
    local bytes, pages = show_ranges(r, count or 0, false)
    return string.format("%s, %d bytes in %s", count_text(count, "range"), bytes, count_text(pages, "page"))
end

local function transfer_pages(r)
    local pageset = r:number("pageset", 2)
    r:number("owner", 1)
    r:show("reserved", 1)
    local count, bytes = r:number("ranges", 4), 0
    for index = 1, count or 0 do
        if r:left() < 8 then
            r:take(8)
            break
        end
        local tree = r.tree:add(vmbus, r.buffer(r.at, 8))
        local length, offset = r:number("range.length", 4, tree), r:number("range.offset", 4, tree)
        tree:set_text(string.format("Range %d: %d bytes at offset %d", index, length, offset))
        bytes = bytes + length
    end
    return string.format("page set %s, %s, %d bytes", text(pageset), count_text(count, "range"), bytes)
end

local function dissect_loopback(r, context)
    local operation, status = r:number("loopback.operation", 4), r:number("loopback.status", 4)
    local argument = r:show("loopback.argument", 8)
    local count, length = r:number("loopback.count", 4), r:number("loopback.length", 4)
    r:rest("packet.payload")
    if not length then
        return "without a header"
    end
    local info = (loopback_operations[operation] or "operation " .. operation)
    if operation == 3 then
        info = info .. string.format(" of %s of %d bytes", count_text(count, "packet"), length)
    end
    info = info .. string.format(", argument 0x%s", argument:le_uint64():tohex():gsub("^0+(.)", "%1"))
    if status ~= 0 then
        info = info .. ", FAILED: " .. (loopback_statuses[status] or status)
    end
    return string.format("%s, %d bytes of data", info, context.payload - 24)
end

local extensions = { [7] = transfer_pages, [9] = gpa_direct }

local function dissect_payload(r, context)
    if context.protocol == "loopback" then
        return dissect_loopback(r, context)
    end
    if not context.pipe then
        local kept = r:left()
        r:rest("packet.payload")
        local cut = kept < context.payload and string.format(", %d of them in the trace", kept) or ""
        return string.format("%d bytes%s", context.payload, cut)
    end
    local kind = r:number("pipe.type", 4)
    local length = r:number("pipe.length", 4)
    if not length then
        return "without a pipe header"
    end
    local data = r:take(math.min(length, r:left()))
    local info = string.format("%s, %d bytes", pipe_types[kind] or "pipe message " .. kind, length)
    if data and context.protocol == "services" then
        info = dissect_ic(reader(data, r.tree))
    elseif data then
        r.tree:add(f["pipe.data"], data)
    end
    r:rest("packet.padding")
    return info
end

-- Shows a number of units of 8 bytes.
local function show_units(r, name)
    local units, item = r:number(name, 2)
    if units then
        item:append_text(string.format(" units, %d bytes", units * 8))
    end
    return units
end

local function dissect_packet(buffer, tree, context)
    local r = reader(buffer, tree)
    local kind = r:number("packet.type", 2)
    local offset = show_units(r, "packet.offset")
    local length = show_units(r, "packet.length")
    r:flags("packet.flags", 2, { "completion" })
    local transaction = r:show("packet.transaction", 8)
    if not transaction then
        return "Packet without a descriptor"
    end
    local name = packet_types[kind] or "type " .. hex(kind)
    tree:append_text(", " .. name)
    local info = string.format("%s, transaction 0x%s", name, transaction:le_uint64():tohex():gsub("^0+(.)", "%1"))
    local size = math.min(offset * 8 - r.at, r:left())
    if size > 0 then
        local range = r:take(size)
        local sub = tree:add(f["packet.extension"], range)
        if extensions[kind] then
            info = info .. ", " .. extensions[kind](reader(range, sub))
        end
    end
    context.payload = (length - offset) * 8
    if r:left() == 0 then
        return info .. (context.payload > 0 and ", payload not in the trace" or ", empty")
    end
    local payload = dissect_payload(r, context)
    -- Services tell requests apart by themselves: their packets are all in-band, their transactions 0.
    return context.protocol == "services" and kind == IN_BAND and payload or info .. ", " .. payload
end

-- Records --------------------------------------------------------------------------------------------------------

local function dissect_header(buffer, tree)
    local r = reader(buffer, tree:add(vmbus, buffer, "Pseudo header"))
    local header = { version = r:number("header.version", 1), length = r:number("header.length", 1) }
    header.kind = r:number("kind", 1)
    header.direction = r:number("direction", 1)
    local to_guest_message = header.kind == MESSAGE and header.direction == TO_GUEST
    local flags = uint(r:take(2))
    header.pipe = flags % 2 == FLAG_PIPE
    if header.kind == PACKET then
        r.tree:add_le(f["pipe"], buffer(4, 2))
        r.at = 8
        header.channel = r:number("channel", 4)
        r:number("doorbell", 4)
        r.at = 20
        header.interface = r:guid("interface")
        header.device, header.protocol = device_of(header.interface)
        if header.device then
            r.tree:add(f["device"], buffer(20, 16), header.device)
        end
    elseif to_guest_message then
        header.sint = r:number("posted.sint", 1)
        r.at = 16
        header.vp = r:number("posted.vp", 4)
    elseif header.kind == MESSAGE then
        r.at = 12
        header.connection_id = r:number("posted.connection_id", 4)
    end
    return header
end

function vmbus.dissector(buffer, pinfo, tree)
    pinfo.cols.protocol = "VMBus"
    local length = buffer:len() >= 36 and buffer(0, 1):uint() == HEADER_VERSION and buffer(1, 1):uint()
    if not length or length < 36 or length > buffer:len() then
        pinfo.cols.info = "Not a record of busman's, or of another version"
        tree:add_proto_expert_info(unknown)
        return 0
    end
    local top = tree:add(vmbus, buffer())
    local context = dissect_header(buffer(0, length), top)
    context.number = pinfo.number
    local from_guest = context.direction ~= TO_GUEST
    pinfo.cols.src = from_guest and "guest" or "host"
    pinfo.cols.dst = from_guest and "host" or "guest"
    if buffer:len() == length then
        pinfo.cols.info = "Empty " .. (kinds[context.kind] or "record")
        return buffer:len()
    end
    local body = buffer(length)
    local info
    if context.kind == MESSAGE then
        info = dissect_message(body, top, context)
    elseif context.kind == PACKET then
        local name = context.device and " (" .. context.device .. ")" or ""
        info = string.format("Channel %d%s: %s", context.channel, name, dissect_packet(body, top, context))
    elseif context.kind == NOTE then
        info = body:string()
        top:add(f["note"], body)
    else
        info = "Record of unknown kind " .. context.kind
    end
    pinfo.cols.info = info
    return buffer:len()
end

DissectorTable.get("wtap_encap"):add(wtap.USER0, vmbus)
