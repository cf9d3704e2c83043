//! A network adapter's addresses: as people see them, as texts (up to version 4.0) and binary (version 5.0).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::protocol::{IpBinaryMessage, IpTextMessage, KvpHeader, address_family};
use crate::ic::requests::GuestError;
use crate::ic::text;

/// An address and the length of its network's prefix. As text: `10.0.0.2/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address.
    pub address: IpAddr,
    /// Bits of the prefix.
    pub prefix: u8,
}

impl Network {
    fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        (prefix <= bits).then_some(Network { address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Network::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| format!("{text:?} is no address with its prefix, for instance 10.0.0.2/24"))
    }
}

impl Serialize for Network {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a network adapter of the guest is set to, or should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpInfo {
    /// Whether addresses come by DHCP.
    pub dhcp: bool,
    /// Its addresses.
    pub addresses: Vec<Network>,
    /// Gateways.
    pub gateways: Vec<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
}

impl IpInfo {
    /// Whether an adapter can be set to it: by DHCP or by hand, not both and not neither.
    ///
    /// # Errors
    /// What is missing or too much.
    pub(super) fn check(&self) -> Result<(), GuestError> {
        match (self.dhcp, self.addresses.is_empty()) {
            (false, true) => Err(GuestError::Invalid("An adapter needs an address, or DHCP")),
            (true, false) => {
                Err(GuestError::Invalid("An adapter has its addresses by DHCP or by hand, not both"))
            }
            _ => Ok(()),
        }
    }

    fn family(&self) -> u8 {
        // What DHCP without a 6 means.
        let has = |v4| {
            self.addresses.iter().any(|network| network.address.is_ipv4() == v4)
                || v4 && self.dhcp && self.addresses.is_empty()
        };
        let flag = |v4, flag| if has(v4) { flag } else { 0 };
        flag(true, address_family::IPV4) | flag(false, address_family::IPV6)
    }
}

/// The body of a request up to version 4.0.
///
/// # Errors
/// When there is no room for it.
pub(super) fn to_text(header: KvpHeader, adapter: &str, info: &IpInfo) -> Result<Vec<u8>, GuestError> {
    let mut message = IpTextMessage::new_zeroed();
    message.header = header;
    text::write("The adapter's name", adapter, &mut message.adapter)?;
    (message.family, message.dhcp) = (info.family(), u8::from(info.dhcp));
    let subnet = |network: &Network| match network.address {
        IpAddr::V4(_) => mask(network.prefix).to_string(),
        IpAddr::V6(_) => format!("/{}", network.prefix),
    };
    let addresses = info.addresses.iter().map(|network| network.address);
    text::write("The list of addresses", &list(addresses), &mut message.addresses)?;
    text::write("The list of networks", &list(info.addresses.iter().map(subnet)), &mut message.subnets)?;
    text::write("The list of gateways", &list(&info.gateways), &mut message.gateways)?;
    text::write("The list of name servers", &list(&info.dns), &mut message.dns)?;
    Ok(message.as_bytes().to_vec())
}

fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(";")
}

fn mask(prefix: u8) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0))
}

/// What the guest says up to version 4.0.
///
/// # Errors
/// When it makes no sense.
pub(super) fn from_text(body: &[u8]) -> Result<IpInfo, GuestError> {
    let (message, _) = IpTextMessage::ref_from_prefix(body).map_err(|_| short(body))?;
    let subnets = split(&message.subnets);
    let networks = split(&message.addresses).into_iter().enumerate().map(|(i, address)| {
        let address = parse::<IpAddr>(&address)?;
        network(address, subnets.get(i).map(String::as_str).unwrap_or_default())
    });
    Ok(IpInfo {
        dhcp: message.dhcp != 0,
        addresses: networks.collect::<Result<_, _>>()?,
        gateways: addresses(&message.gateways)?,
        dns: addresses(&message.dns)?,
    })
}

fn short(body: &[u8]) -> GuestError {
    GuestError::Nonsense(format!("it has {} bytes", body.len()))
}

fn split(field: &[U16]) -> Vec<String> {
    text::until_zero(field).split(';').filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn addresses(field: &[U16]) -> Result<Vec<IpAddr>, GuestError> {
    split(field).iter().map(|item| parse(item)).collect()
}

fn parse<T: FromStr>(text: &str) -> Result<T, GuestError> {
    // Some guests have spaces and new lines at the end, from the output of other programs.
    text.trim().parse().map_err(|_| GuestError::Nonsense(format!("{text:?} is no address")))
}

/// An address of which the guest said netmask or prefix, or nothing.
fn network(address: IpAddr, subnet: &str) -> Result<Network, GuestError> {
    let subnet = subnet.trim();
    let prefix = match address {
        _ if subnet.is_empty() => Some(if address.is_ipv4() { 32 } else { 128 }),
        _ if subnet.starts_with('/') => subnet.get(1..).and_then(|prefix| prefix.parse().ok()),
        IpAddr::V4(_) => subnet.parse().ok().and_then(prefix_of),
        IpAddr::V6(_) => subnet.parse().ok(),
    };
    prefix
        .and_then(|prefix| Network::new(address, prefix))
        .ok_or_else(|| GuestError::Nonsense(format!("{subnet:?} is no network of {address}")))
}

fn prefix_of(netmask: Ipv4Addr) -> Option<u8> {
    let prefix = u8::try_from(netmask.to_bits().leading_ones()).ok()?;
    (mask(prefix) == netmask).then_some(prefix)
}

/// The body of a request of version 5.0.
///
/// # Errors
/// When there is no room for it.
pub(super) fn to_binary(header: KvpHeader, adapter: &str, info: &IpInfo) -> Result<Vec<u8>, GuestError> {
    let mut message = IpBinaryMessage::new_zeroed();
    message.header = header;
    text::write("The adapter's name", adapter, &mut message.adapter)?;
    (message.family, message.dhcp) = (info.family(), u8::from(info.dhcp));
    let addresses = info.addresses.iter().map(|network| network.address);
    let prefixes = |v4| info.addresses.iter().filter(move |network| network.address.is_ipv4() == v4);
    message.ipv4_count = put(octets4(addresses.clone()), &mut message.ipv4, "The list of addresses")?;
    message.ipv6_count = put(octets6(addresses), &mut message.ipv6, "The list of addresses")?;
    let masks = prefixes(true).map(|network| mask(network.prefix).octets());
    put(masks, &mut message.ipv4_masks, "The list of networks")?;
    let ipv6_prefixes = prefixes(false).map(|network| U32::from(u32::from(network.prefix)));
    put(ipv6_prefixes, &mut message.ipv6_prefixes, "The list of networks")?;
    let (gateways, dns) = (info.gateways.iter().copied(), info.dns.iter().copied());
    let what = "The list of gateways";
    message.ipv4_gateway_count = put(octets4(gateways.clone()), &mut message.ipv4_gateways, what)?;
    message.ipv6_gateway_count = put(octets6(gateways), &mut message.ipv6_gateways, what)?;
    let what = "The list of name servers";
    message.ipv4_dns_count = put(octets4(dns.clone()), &mut message.ipv4_dns, what)?;
    message.ipv6_dns_count = put(octets6(dns), &mut message.ipv6_dns, what)?;
    Ok(message.as_bytes().to_vec())
}

fn octets4(addresses: impl Iterator<Item = IpAddr>) -> impl Iterator<Item = [u8; 4]> {
    addresses.filter_map(|address| match address {
        IpAddr::V4(address) => Some(address.octets()),
        IpAddr::V6(_) => None,
    })
}

fn octets6(addresses: impl Iterator<Item = IpAddr>) -> impl Iterator<Item = [u8; 16]> {
    addresses.filter_map(|address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address.octets()),
    })
}

/// Fills a field; gives how many there are.
fn put<T>(items: impl Iterator<Item = T>, field: &mut [T], what: &'static str) -> Result<U32, GuestError> {
    let mut count: u32 = 0;
    let max = field.len();
    let mut places = field.iter_mut();
    for item in items {
        *places.next().ok_or(GuestError::TooLong { what, max, unit: "addresses of a kind" })? = item;
        count += 1;
    }
    Ok(count.into())
}

/// What the guest says in version 5.0.
///
/// # Errors
/// When it makes no sense.
pub(super) fn from_binary(body: &[u8]) -> Result<IpInfo, GuestError> {
    let (message, _) = IpBinaryMessage::ref_from_prefix(body).map_err(|_| short(body))?;
    let ipv4 =
        get(&message.ipv4, message.ipv4_count)?.iter().zip(&message.ipv4_masks).map(|(address, netmask)| {
            let prefix = prefix_of((*netmask).into());
            let prefix = prefix.ok_or_else(|| GuestError::Nonsense(format!("{netmask:?} is no netmask")))?;
            Ok(Network { address: Ipv4Addr::from(*address).into(), prefix })
        });
    let ipv6 = get(&message.ipv6, message.ipv6_count)?.iter().zip(&message.ipv6_prefixes).map(
        |(address, prefix)| {
            let network = u8::try_from(prefix.get());
            let network =
                network.ok().and_then(|prefix| Network::new(Ipv6Addr::from(*address).into(), prefix));
            network.ok_or_else(|| GuestError::Nonsense(format!("a prefix of {prefix} bits")))
        },
    );
    Ok(IpInfo {
        dhcp: message.dhcp != 0,
        addresses: ipv4.chain(ipv6).collect::<Result<_, _>>()?,
        gateways: both(
            get(&message.ipv4_gateways, message.ipv4_gateway_count)?,
            get(&message.ipv6_gateways, message.ipv6_gateway_count)?,
        ),
        dns: both(
            get(&message.ipv4_dns, message.ipv4_dns_count)?,
            get(&message.ipv6_dns, message.ipv6_dns_count)?,
        ),
    })
}

fn get<T>(field: &[T], count: U32) -> Result<&[T], GuestError> {
    let items = usize::try_from(count.get()).ok().and_then(|count| field.get(..count));
    items.ok_or_else(|| GuestError::Nonsense(format!("a list of {count} addresses")))
}

fn both(ipv4: &[[u8; 4]], ipv6: &[[u8; 16]]) -> Vec<IpAddr> {
    ipv4.iter().map(|&octets| octets.into()).chain(ipv6.iter().map(|&octets| octets.into())).collect()
}
