// Encrypts or decrypts one layer with ocicrypt itself, the library below skopeo and containerd.
//
// skopeo's releases differ in which version of the library they carry; this calls one version by name.
//
//	ocicrypt-layer encrypt IN OUT RECIPIENT...   prints the annotations, in JSON
//	ocicrypt-layer decrypt IN OUT KEY...         reads the annotations from standard input
//
// RECIPIENT and KEY are what skopeo takes after --encryption-key and --decryption-key.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containers/ocicrypt"
	"github.com/containers/ocicrypt/helpers"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	if len(os.Args) < 5 {
		fail(fmt.Errorf("usage: ocicrypt-layer encrypt|decrypt IN OUT NAME"))
	}
	in, err := os.Open(os.Args[2])
	fail(err)
	out, err := os.Create(os.Args[3])
	fail(err)
	if os.Args[1] == "encrypt" {
		fail(encrypt(in, out, os.Args[4:]))
	} else {
		fail(decrypt(in, out, os.Args[4:]))
	}
	fail(out.Close())
}

func encrypt(in *os.File, out io.Writer, recipients []string) error {
	cc, err := helpers.CreateCryptoConfig(recipients, nil)
	if err != nil {
		return err
	}
	plain, err := digest.FromReader(in)
	if err != nil {
		return err
	}
	if _, err = in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	reader, finish, err := ocicrypt.EncryptLayer(cc.EncryptConfig, in, ocispec.Descriptor{Digest: plain})
	if err != nil {
		return err
	}
	if _, err = io.Copy(out, reader); err != nil {
		return err
	}
	annotations, err := finish()
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(annotations)
}

func decrypt(in io.Reader, out io.Writer, keys []string) error {
	var annotations map[string]string
	if err := json.NewDecoder(os.Stdin).Decode(&annotations); err != nil {
		return err
	}
	cc, err := helpers.CreateDecryptCryptoConfig(keys, nil)
	if err != nil {
		return err
	}
	descriptor := ocispec.Descriptor{Annotations: annotations}
	reader, _, err := ocicrypt.DecryptLayer(cc.DecryptConfig, in, descriptor, false)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, reader)
	return err
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
