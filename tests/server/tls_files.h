#pragma once

// A self-signed certificate for "localhost", made anew, as files that vanish with the object.

#include <string>

namespace ds4::test {

class TlsFiles {
 public:
  TlsFiles();
  ~TlsFiles();
  TlsFiles(const TlsFiles&) = delete;
  TlsFiles& operator=(const TlsFiles&) = delete;

  const std::string& cert() const { return cert_; }
  const std::string& key() const { return key_; }

 private:
  std::string directory_;
  std::string cert_;
  std::string key_;
};

}  // namespace ds4::test
