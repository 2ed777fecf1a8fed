package strongroom

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/BurntSushi/toml"
	"google.golang.org/grpc/codes"
)

// profile is one mesh and one caller in the profile file, which `make run` and `strongroom profile create` write.
type profile struct {
	Account    string            `toml:"account"`
	Endpoints  map[string]string `toml:"endpoints"`
	Trust      string            `toml:"trust"`
	Cert       string            `toml:"certificate"`
	Key        string            `toml:"key"`
	Session    bool              `toml:"session"`
	ClientKey  string            `toml:"client_key"`
	SecretFile string            `toml:"client_key_secret_file"`
	TokenFile  string            `toml:"oidc_token_file"`
	Name       string            `toml:"session_name"`
	Role       string            `toml:"role"`
	ExternalID string            `toml:"external_id"`
}

// FromProfile makes a client from the profile file (`$STRONGROOM_CONFIG`, or `strongroom/profiles.toml` in the
// configuration directory). An empty name stands for `$STRONGROOM_PROFILE`, or else the file's current profile.
// `$STRONGROOM_TOKEN` is a session token that is used in place of the profile's credentials.
func FromProfile(name string) (*Client, error) {
	path, err := profilePath()
	if err != nil {
		return nil, err
	}
	var file struct {
		Current  string             `toml:"current"`
		Profiles map[string]profile `toml:"profiles"`
	}
	if _, err := toml.DecodeFile(path, &file); errors.Is(err, fs.ErrNotExist) {
		return nil, notFound(path + " does not exist; `strongroom profile create NAME HOST:PORT` makes one, and so does `make run`")
	} else if err != nil {
		return nil, invalid("PROFILE_INVALID", "profile", path+": "+err.Error())
	}
	for _, wanted := range []string{os.Getenv("STRONGROOM_PROFILE"), file.Current} {
		if name == "" {
			name = wanted
		}
	}
	found, there := file.Profiles[name]
	if !there {
		return nil, notFound(fmt.Sprintf("there is no profile %q in %s", name, path))
	}
	for _, field := range []*string{&found.Trust, &found.Cert, &found.Key, &found.SecretFile, &found.TokenFile} {
		if *field != "" && !filepath.IsAbs(*field) {
			*field = filepath.Join(filepath.Dir(path), *field)
		}
	}
	credentials, err := found.credentials(name)
	if err != nil {
		return nil, err
	}
	return New(Config{Endpoints: found.Endpoints, Account: found.Account, Trust: found.Trust, Credentials: credentials})
}

func (p profile) credentials(name string) (Credentials, error) {
	credentials := p.own()
	if token := strings.TrimSpace(os.Getenv("STRONGROOM_TOKEN")); token != "" {
		credentials = SessionToken{Secret(token)}
	}
	if credentials == nil {
		return nil, invalid("PROFILE_INVALID", "profile", "profile "+name+" has no credentials")
	}
	if p.Role == "" {
		return credentials, nil
	}
	role, session := p.Role, p.Name
	if !strings.HasPrefix(role, "accounts/") {
		role = "accounts/" + p.Account + "/roles/" + strings.TrimPrefix(role, "roles/")
	}
	if session == "" {
		session = "strongroom"
	}
	return AssumedRole{Source: credentials, Role: role, SessionName: session, ExternalID: p.ExternalID}, nil
}

func (p profile) own() Credentials {
	switch {
	case p.ClientKey != "":
		return ClientKeySession{Name: p.ClientKey, SecretFile: p.SecretFile, SessionName: p.Name}
	case p.TokenFile != "":
		return OIDCTokenSession{TokenFile: p.TokenFile, Account: p.Account, SessionName: p.Name}
	case p.Cert != "" && p.Session:
		return CertificateSession{Certificate: p.Cert, Key: p.Key, SessionName: p.Name}
	case p.Cert != "":
		return ClientCertificate{p.Cert, p.Key}
	}
	return nil
}

func profilePath() (string, error) {
	if path := os.Getenv("STRONGROOM_CONFIG"); path != "" {
		return path, nil
	}
	home := os.Getenv("XDG_CONFIG_HOME")
	if home == "" {
		user, err := os.UserHomeDir()
		if err != nil {
			return "", notFound("you have no home directory: say in STRONGROOM_CONFIG where the profiles are")
		}
		home = filepath.Join(user, ".config")
	}
	return filepath.Join(home, "strongroom", "profiles.toml"), nil
}

func notFound(message string) *Error {
	return &Error{Reason: "PROFILE_NOT_FOUND", Code: codes.NotFound, Field: "profile", Message: message}
}
