//! EFI's structures around variables, and the well-known names (UEFI 2.10, sections 3.3, 8.2 and 32.4).

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::firmware::protocol::EfiTime;
use crate::guid::Guid;

bitflags! {
    /// Attributes of a variable (UEFI 2.10, 8.2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Attributes: u32 {
        /// Survives a power cycle.
        const NON_VOLATILE = 1 << 0;
        /// There until ExitBootServices.
        const BOOT_SERVICE = 1 << 1;
        /// There after it too.
        const RUNTIME = 1 << 2;
        /// A hardware error record; not here.
        const HARDWARE_ERROR = 1 << 3;
        /// Authenticated by a count; withdrawn from the specification.
        const COUNT_AUTHENTICATED = 1 << 4;
        /// Authenticated by a signature with a time.
        const TIME_AUTHENTICATED = 1 << 5;
        /// Of a write: adds to the data that are there.
        const APPEND = 1 << 6;
        /// Authenticated in yet another way; not here.
        const ENHANCED_AUTHENTICATED = 1 << 7;
    }
}

impl Attributes {
    /// Of a variable that lasts and that everybody sees.
    pub const LASTING: Attributes =
        Attributes::NON_VOLATILE.union(Attributes::BOOT_SERVICE).union(Attributes::RUNTIME);
    /// Of PK, KEK, db and their like.
    pub const POLICY: Attributes = Attributes::LASTING.union(Attributes::TIME_AUTHENTICATED);
    /// Without either of these a variable is nowhere.
    pub const ACCESS: Attributes = Attributes::BOOT_SERVICE.union(Attributes::RUNTIME);
}

/// What precedes the data of an authenticated write (`EFI_VARIABLE_AUTHENTICATION_2`); PKCS#7 follows.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct Authentication {
    /// When it was signed.
    pub time: EfiTime,
    /// Bytes from this field to the end of the PKCS#7 data.
    pub length: U32,
    /// [`CERTIFICATE_REVISION`].
    pub revision: U16,
    /// [`CERTIFICATE_TYPE`].
    pub kind: U16,
    /// [`PKCS7`].
    pub certificate: Guid,
}
const _: () = assert!(size_of::<Authentication>() == 40);

/// Bytes of [`Authentication`] that its length counts (`WIN_CERTIFICATE_UEFI_GUID`).
pub const CERTIFICATE_HEADER: usize = 24;
/// Of `WIN_CERTIFICATE`.
pub const CERTIFICATE_REVISION: u16 = 0x0200;
/// `WIN_CERT_TYPE_EFI_GUID`.
pub const CERTIFICATE_TYPE: u16 = 0x0ef1;
/// `EFI_CERT_TYPE_PKCS7_GUID`.
pub const PKCS7: Guid = Guid::parse("4aafd29d-68df-49ee-8aa9-347d375665a7");

/// Signatures of one type and size (`EFI_SIGNATURE_LIST`); a header and the signatures follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
pub struct SignatureList {
    /// [`X509`] or another.
    pub kind: Guid,
    /// Bytes with this structure.
    pub list_bytes: U32,
    /// Bytes of the header.
    pub header_bytes: U32,
    /// Bytes of each signature, of which 16 are its owner's GUID.
    pub signature_bytes: U32,
}
const _: () = assert!(size_of::<SignatureList>() == 28);

/// `EFI_CERT_X509_GUID`.
pub const X509: Guid = Guid::parse("a5c059a1-94e4-4aa7-87b5-ab155c2bf072");
/// `EFI_CERT_SHA256_GUID`.
pub const SHA256: Guid = Guid::parse("c1c41626-504c-4092-aca9-41f936934328");

/// Vendors of well-known variables.
pub mod vendor {
    use super::Guid;

    /// `EFI_GLOBAL_VARIABLE`: PK, KEK, SecureBoot, SetupMode, Boot####, BootOrder.
    pub const GLOBAL: Guid = Guid::parse("8be4df61-93ca-11d2-aa0d-00e098032b8c");
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: db, dbx, dbt, dbr.
    pub const IMAGE_SECURITY: Guid = Guid::parse("d719b2cb-3d3a-4596-a3bc-dad00e67656f");
    /// Hyper-V's OsLoaderIndications (mu_msvm).
    pub const HYPERV: Guid = Guid::parse("610b9e98-c6f6-47f8-8b47-2d2da0d52a91");
    /// `EFI_SECURE_BOOT_ENABLE_DISABLE_GUID`: SecureBootEnable.
    pub const SECURE_BOOT_ENABLE: Guid = Guid::parse("f0a30bc7-af08-4556-99c4-001009c93a44");
    /// TCG's MemoryOverwriteRequestControl.
    pub const MEMORY_OVERWRITE: Guid = Guid::parse("e20939be-32d4-41be-a150-897f85d49829");
}
