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

/// What may be in a list of signatures, and the bytes that each of it has after its owner's GUID; certificates have
/// as many as they have (UEFI 2.10, 32.4.1). Hashes of certificates have a time of revocation behind them.
pub const SIGNATURE_KINDS: [(Guid, Option<usize>); 12] = [
    (X509, None),
    (SHA256, Some(32)),
    // `EFI_CERT_RSA2048_GUID`, `EFI_CERT_RSA2048_SHA256_GUID`, `EFI_CERT_RSA2048_SHA1_GUID`.
    (Guid::parse("3c5766e8-269c-4e34-aa14-ed776e85b3b6"), Some(256)),
    (Guid::parse("e2b36190-879b-4a3d-ad8d-f2e7bba32784"), Some(256)),
    (Guid::parse("67f8444f-8743-48f1-a328-1eaab8736080"), Some(256)),
    // `EFI_CERT_SHA1_GUID`, `EFI_CERT_SHA224_GUID`, `EFI_CERT_SHA384_GUID`, `EFI_CERT_SHA512_GUID`.
    (Guid::parse("826ca512-cf10-4ac9-b187-be01496631bd"), Some(20)),
    (Guid::parse("0b6e5233-a65c-44c9-9407-d9ab83bfc8bd"), Some(28)),
    (Guid::parse("ff3e5307-9fd0-48c9-85f1-8ad56c701e01"), Some(48)),
    (Guid::parse("093e0fae-a6c4-4f50-9f1b-d41e2b89c19a"), Some(64)),
    // `EFI_CERT_X509_SHA256_GUID`, `EFI_CERT_X509_SHA384_GUID`, `EFI_CERT_X509_SHA512_GUID`.
    (Guid::parse("3bd2a492-96c0-4079-b420-fcf98ef103ed"), Some(48)),
    (Guid::parse("7076876e-80c2-4ee6-aad2-28b349a6865b"), Some(64)),
    (Guid::parse("446dbf63-2502-4cda-bcfa-2465d2b0fe9d"), Some(80)),
];

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
