#include "server/tls_files.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <memory>

#include "base/check.h"

namespace ds4::test {
namespace {

template <class T, void (*free)(T*)>
struct Free {
  void operator()(T* object) const { free(object); }
};

std::FILE* open_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "w");
  CHECK(file != nullptr, "cannot write {}", path);
  return file;
}

}  // namespace

TlsFiles::TlsFiles() {
  std::string name = (std::filesystem::temp_directory_path() / "ds4_tls_XXXXXX").string();
  CHECK(mkdtemp(name.data()) != nullptr, "no directory {}", name);
  directory_ = name;
  cert_ = directory_ + "/cert.pem";
  key_ = directory_ + "/key.pem";

  const std::unique_ptr<EVP_PKEY, Free<EVP_PKEY, EVP_PKEY_free>> key(EVP_EC_gen("P-256"));
  const std::unique_ptr<X509, Free<X509, X509_free>> cert(X509_new());
  X509_set_version(cert.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(cert.get()), -60);
  X509_gmtime_adj(X509_getm_notAfter(cert.get()), 3600);
  X509_set_pubkey(cert.get(), key.get());
  X509_NAME* subject = X509_get_subject_name(cert.get());
  const unsigned char kName[] = "localhost";
  X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, kName, -1, -1, 0);
  X509_set_issuer_name(cert.get(), subject);
  CHECK(X509_sign(cert.get(), key.get(), EVP_sha256()) != 0, "the certificate cannot be signed");

  std::FILE* file = open_file(cert_);
  PEM_write_X509(file, cert.get());
  std::fclose(file);
  file = open_file(key_);
  PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
}

TlsFiles::~TlsFiles() {
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

}  // namespace ds4::test
